//! Finds in a NixOS system's derivations what an administrator asks about: units, users, kernel
//! parameters. Nothing is built; a fact that the derivations do not hold is absent, not empty.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{derivation::Graph, name};

/// What the derivations of one system tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// systemd units of the system by name, with a text that differs when the unit does.
    pub units: Option<BTreeMap<String, String>>,
    /// Users, with a text that differs when the user does.
    pub users: Option<BTreeMap<String, String>>,
    /// Kernel parameters in their order.
    pub kernel_parameters: Option<Vec<String>>,
}

/// Reads the facts from a system's graph. The names are those of nixpkgs: `system-units` and `unit-*`
/// (nixos/lib/systemd-lib.nix), `users-groups.json` (nixos/modules/config/users-groups.nix), `boot.json`
/// (nixos/modules/system/activation/bootspec.nix).
pub fn facts(graph: &Graph) -> Facts {
    let text = |name: &str| graph.nodes.values().find(|n| n.name == name).and_then(|n| n.env.get("text"));
    Facts {
        units: units(graph),
        users: text("users-groups.json").and_then(|json| users(json)),
        kernel_parameters: text("boot.json").and_then(|json| kernel_parameters(json)),
    }
}

fn units(graph: &Graph) -> Option<BTreeMap<String, String>> {
    let collected = graph.nodes.values().find(|node| node.name == "system-units")?;
    let inputs = collected.inputs.iter().filter_map(|drv| Some((drv, graph.nodes.get(drv)?)));
    // A unit whose text is the same but for hashes was only built anew; its text is what a person changed.
    let text = |drv: &String, node: &super::derivation::Node| {
        node.env.get("text").map_or_else(|| drv.clone(), |text| name::without_hashes(text))
    };
    let units = inputs.filter_map(|(drv, node)| Some((node.name.strip_prefix("unit-")?.to_owned(), text(drv, node))));
    Some(units.collect())
}

fn users(json: &str) -> Option<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct File {
        users: Vec<serde_json::Value>,
    }
    let file: File = serde_json::from_str(json).ok()?;
    let users = file.users.into_iter();
    Some(
        users
            .filter_map(|user| Some((user.get("name")?.as_str()?.to_owned(), name::without_hashes(&user.to_string()))))
            .collect(),
    )
}

fn kernel_parameters(json: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "org.nixos.bootspec.v1")]
        boot: Boot,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Boot {
        kernel_params: Vec<String>,
    }
    let file: File = serde_json::from_str(json).ok()?;
    Some(file.boot.kernel_params)
}

/// What differs between two sets of named things.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delta {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Things by name with a text that differs when the thing does.
    pub fn of_named(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Self {
        let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
            a.keys().filter(|key| !b.contains_key(*key)).cloned().collect()
        };
        let changed = new.iter().filter(|(key, text)| old.get(*key).is_some_and(|other| other != *text));
        Self { added: only(new, old), removed: only(old, new), changed: changed.map(|(key, _)| key.clone()).collect() }
    }

    /// Things that are only there or not.
    pub fn of_plain<T: Ord + ToString>(old: &[T], new: &[T]) -> Self {
        let (old, new): (BTreeSet<&T>, BTreeSet<&T>) = (old.iter().collect(), new.iter().collect());
        let texts = |set: Vec<&&T>| set.into_iter().map(|t| t.to_string()).collect();
        Self {
            added: texts(new.difference(&old).collect()),
            removed: texts(old.difference(&new).collect()),
            changed: vec![],
        }
    }
}

/// The ports that `networking.firewall` opens, as NixOS option values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Firewall {
    pub enable: bool,
    #[serde(rename = "allowedTCPPorts")]
    pub tcp: Vec<u16>,
    #[serde(rename = "allowedUDPPorts")]
    pub udp: Vec<u16>,
    #[serde(rename = "allowedTCPPortRanges")]
    pub tcp_ranges: Vec<Range>,
    #[serde(rename = "allowedUDPPortRanges")]
    pub udp_ranges: Vec<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Range {
    pub from: u16,
    pub to: u16,
}

/// The function that `nix eval --apply` gets for `nixosConfigurations`: the firewall of one host, or null
/// where there is no such host or no such option.
pub fn firewall_function(host: &crate::job::HostName) -> String {
    format!(
        "c: let f = c.\"{host}\".config.networking.firewall or null; in if f == null then null else \
         {{ inherit (f) enable allowedTCPPorts allowedUDPPorts allowedTCPPortRanges allowedUDPPortRanges; }}"
    )
}

impl Firewall {
    /// The open ports as `22/tcp` and `8000-8010/udp`; a firewall that is off opens every port.
    pub fn ports(&self) -> Vec<String> {
        if !self.enable {
            return vec!["all (the firewall is off)".into()];
        }
        let plain = |ports: &[u16], of: &str| ports.iter().map(|port| format!("{port}/{of}")).collect::<Vec<_>>();
        let range =
            |ranges: &[Range], of: &str| ranges.iter().map(|r| format!("{}-{}/{of}", r.from, r.to)).collect::<Vec<_>>();
        [
            plain(&self.tcp, "tcp"),
            range(&self.tcp_ranges, "tcp"),
            plain(&self.udp, "udp"),
            range(&self.udp_ranges, "udp"),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::derivation::tests::{drv, graph};

    #[test]
    fn units_users_and_parameters_are_read_from_derivations() {
        let users = r#"{"groups":[],"users":[{"name":"alice","uid":1000,"shell":"/nix/store/26623n6wyv200gira5w2lp1yb3715vnh-bash"}]}"#;
        let boot = r#"{"org.nixos.bootspec.v1":{"kernelParams":["quiet","loglevel=4"]}}"#;
        let graph = graph(&[
            (drv(1, "system-units"), &[], &[drv(2, "unit-nginx.service"), drv(3, "bash-5")]),
            (drv(2, "unit-nginx.service"), &[], &[]),
            (drv(3, "bash-5"), &[], &[]),
            (drv(4, "users-groups.json"), &[("text", users)], &[]),
            (drv(5, "boot.json"), &[("text", boot)], &[]),
        ]);
        let facts = facts(&graph);
        assert_eq!(facts.units.unwrap().into_keys().collect::<Vec<_>>(), ["nginx.service"]);
        assert_eq!(facts.users.unwrap().into_keys().collect::<Vec<_>>(), ["alice"]);
        assert_eq!(facts.kernel_parameters.unwrap(), ["quiet", "loglevel=4"]);
    }

    #[test]
    fn a_fleet_that_is_not_nixos_has_no_facts() {
        assert_eq!(facts(&graph(&[(drv(1, "top"), &[], &[])])), Facts::default());
    }

    #[test]
    fn deltas() {
        let map = |rows: &[(&str, &str)]| rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let delta =
            Delta::of_named(&map(&[("a", "1"), ("b", "1"), ("c", "1")]), &map(&[("b", "1"), ("c", "2"), ("d", "1")]));
        assert_eq!((delta.added, delta.removed, delta.changed), (vec!["d".into()], vec!["a".into()], vec!["c".into()]));
        assert!(Delta::of_plain(&["x"], &["x"]).is_empty());
    }

    #[test]
    fn ports_are_written_as_people_write_them() {
        let json = r#"{"enable":true,"allowedTCPPorts":[22,80],"allowedUDPPorts":[53],
            "allowedTCPPortRanges":[{"from":8000,"to":8010}],"allowedUDPPortRanges":[]}"#;
        let mut firewall: Firewall = serde_json::from_str(json).unwrap();
        assert_eq!(firewall.ports(), ["22/tcp", "80/tcp", "8000-8010/tcp", "53/udp"]);
        firewall.enable = false;
        assert_eq!(firewall.ports(), ["all (the firewall is off)"]);
    }
}
