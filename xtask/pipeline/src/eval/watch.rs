//! Records which files of a folder are opened, by whomever, from inotify(7).

use std::{
    collections::{BTreeSet, HashMap},
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
};

use camino::Utf8Path;
use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

/// Watches a folder with everything below it. The kernel queues an event before the `open` that causes it returns, so
/// whoever has heard an evaluator's answer finds all files that the answer was made from.
pub struct Watch {
    queue: OwnedFd,
    /// Folders by watch descriptor, each as the beginning of the paths in it.
    folders: HashMap<i32, String>,
    opened: BTreeSet<String>,
    /// Events may be missing.
    lost: bool,
}

impl Watch {
    /// Begins to watch `root` and every folder below it. Errors: the folder cannot be read, or the kernel has no more
    /// watches for this user (`fs.inotify.max_user_watches`).
    pub fn begin(root: &Utf8Path) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut watch = Self { queue, folders: HashMap::new(), opened: BTreeSet::new(), lost: false };
        let mut open = vec![String::new()];
        while let Some(prefix) = open.pop() {
            let folder = root.join(&prefix);
            let number = inotify::add_watch(&watch.queue, folder.as_str(), WatchFlags::OPEN | WatchFlags::ONLYDIR)?;
            for entry in folder.read_dir_utf8()? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(format!("{prefix}{}/", entry.file_name()));
                }
            }
            watch.folders.insert(number, prefix);
        }
        Ok(watch)
    }

    /// The files that were opened since the beginning, by their paths from the root. None if some may be missing.
    pub fn opened(&mut self) -> Option<&BTreeSet<String>> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => self.lost = true,
                Ok(event) if event.events().contains(ReadFlags::ISDIR) => {}
                Ok(event) => {
                    let name = event.file_name().and_then(|name| name.to_str().ok());
                    match (self.folders.get(&event.wd()), name) {
                        (Some(prefix), Some(name)) => drop(self.opened.insert(format!("{prefix}{name}"))),
                        _ => self.lost = true,
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.lost = true;
                    break;
                }
            }
        }
        (!self.lost).then_some(&self.opened)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_opened_in_any_folder_is_recorded_and_what_is_looked_at_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        for file in ["x", "a/y", "a/b/z", "a/b/linked"] {
            fs::write(root.join(file), "1").unwrap();
        }
        fs::hard_link(root.join("x"), root.join("a/x2")).unwrap();
        std::os::unix::fs::symlink("b/z", root.join("a/link")).unwrap();
        let mut watch = Watch::begin(root).unwrap();
        assert!(watch.opened().unwrap().is_empty());
        fs::metadata(root.join("x")).unwrap();
        fs::read_dir(root.join("a")).unwrap().for_each(drop);
        fs::read_link(root.join("a/link")).unwrap();
        assert!(watch.opened().unwrap().is_empty());
        fs::read(root.join("a/y")).unwrap();
        fs::read(root.join("a/x2")).unwrap();
        fs::read(root.join("a/link")).unwrap();
        let opened: Vec<_> = watch.opened().unwrap().iter().cloned().collect();
        assert_eq!(opened, ["a/b/z", "a/x2", "a/y"]);
        fs::read(root.join("x")).unwrap();
        assert_eq!(watch.opened().unwrap().len(), 4, "what was opened earlier stays");
    }

    #[test]
    fn more_than_the_kernel_keeps_is_known_to_be_incomplete() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        // Equal events in a row are one.
        let names = ["a", "b"].map(|name| root.join(name));
        names.iter().for_each(|name| fs::write(name, "").unwrap());
        let mut watch = Watch::begin(root).unwrap();
        for n in 0..limit.trim().parse::<usize>().unwrap() + 2 {
            fs::read(&names[n % 2]).unwrap();
        }
        assert_eq!(watch.opened(), None);
        assert_eq!(watch.opened(), None, "and stays so");
    }
}
