//! An image and the device that a person chose for it: opens both, unless the device is another one by now.

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::{
    device::{self, Identity},
    diagnostic::usage,
    judge::{self, Asked},
    medium::{Image, Target},
    process::Cancel,
};

/// What is to be written where; as JSON, it passes through `sudo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Absolute.
    pub image: Utf8PathBuf,
    /// Bytes of the image.
    pub size: u64,
    /// Of the image, in hexadecimal.
    pub sha256: String,
    pub device: Utf8PathBuf,
    /// The device as it was shown to the person.
    pub shown: Identity,
}

impl Order {
    /// Opens the image and the device. The device is judged once more when it is open, and nothing else can take it any
    /// more. Nothing is written. Errors: exit code 2 if it must not be written; anything else if it is in use, gone, or
    /// not the one that was shown.
    pub fn open(&self, cancel: &Cancel) -> Result<(Image, Target)> {
        let image = Image::open(&self.image, self.size, &self.sha256)?;
        let target = Target::device(&self.device)?;
        let path = &self.device;
        let number = device::number_of(&target.metadata()?).with_context(|| format!("{path} is no block device"))?;
        let table = device::attached(cancel)?;
        let found = judge::find(&table, &number).with_context(|| format!("lsblk does not know {path} ({number})"))?;
        let mut reason = judge::refusal(found, &table, Asked::Named, self.size);
        for device in found.tree() {
            reason = reason.or(judge::refusal_for(&device.path, &device::signatures(device, cancel)?));
        }
        if let Some(reason) = reason {
            return Err(usage(format!("{path} is not written: {reason}")));
        }
        let now = found.identity();
        ensure!(
            now == self.shown && target.size() == self.shown.size,
            "{path} is not the device that was shown; nothing was written\n  shown: {}\n  now:   {}",
            self.shown.describe(),
            now.describe()
        );
        Ok((image, target))
    }
}
