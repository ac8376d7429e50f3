//! Reads what Nix prints as JSON or text, whatever its version.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A valid store path and its sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    pub path: String,
    pub size: u64,
    pub closure_size: u64,
}

/// Reads `nix path-info --json`: a list with `path` in each element up to 2.18 and in Lix, else a map from
/// path to value, null for an invalid path.
pub fn path_info(text: &str) -> Result<Vec<PathInfo>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Reply {
        List(Vec<Listed>),
        Map(BTreeMap<String, Option<Info>>),
    }
    #[derive(Deserialize)]
    struct Listed {
        path: String,
        #[serde(flatten)]
        info: Info,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        nar_size: Option<u64>,
        closure_size: Option<u64>,
    }
    let finish =
        |path: String, info: Info| Some(PathInfo { path, size: info.nar_size?, closure_size: info.closure_size? });
    let reply = serde_json::from_str(text).context("`nix path-info --json` printed something else")?;
    Ok(match reply {
        Reply::List(list) => list.into_iter().filter_map(|l| finish(l.path, l.info)).collect(),
        Reply::Map(map) => map.into_iter().filter_map(|(path, info)| finish(path, info?)).collect(),
    })
}

/// What `nix build --dry-run` says it would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRun {
    /// Derivations that would be built.
    pub build: Vec<String>,
    /// Store paths that would be copied from a substituter.
    pub fetch: Vec<String>,
}

/// Reads the lists that `nix build --dry-run` prints on stderr.
pub fn dry_run(text: &str) -> DryRun {
    let mut reply = DryRun::default();
    let mut fetching = false;
    for line in text.lines() {
        match line.strip_prefix("  ") {
            Some(path) if path.starts_with('/') => {
                if fetching { &mut reply.fetch } else { &mut reply.build }.push(path.to_owned());
            }
            _ => fetching = line.contains("will be fetched"),
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_path_info() {
        let expected = vec![PathInfo { path: "/nix/store/a".into(), size: 3, closure_size: 9 }];
        let rows = [
            r#"[{"path":"/nix/store/a","narSize":3,"closureSize":9,"valid":true},{"path":"/nix/store/b","valid":false}]"#,
            r#"{"/nix/store/a":{"narSize":3,"closureSize":9},"/nix/store/b":null}"#,
        ];
        for text in rows {
            assert_eq!(path_info(text).unwrap(), expected, "{text}");
        }
        assert!(path_info("oops").is_err());
    }

    #[test]
    fn a_dry_run_is_sorted_into_building_and_fetching() {
        let text = "this derivation will be built:\n  /nix/store/a.drv\nthese 2 paths will be fetched (1.00 MiB download, 2.00 MiB unpacked):\n  /nix/store/b\n  /nix/store/c\n";
        let reply = dry_run(text);
        assert_eq!(reply.build, ["/nix/store/a.drv"]);
        assert_eq!(reply.fetch, ["/nix/store/b", "/nix/store/c"]);
    }
}
