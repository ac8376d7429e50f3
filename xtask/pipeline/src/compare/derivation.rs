//! Reads a graph of derivations from `nix derivation show --recursive`, whatever Nix's version.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    nix::argv,
    process::{Cancel, Invocation},
};

/// One derivation, with all store paths absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// The builder's environment; structured attributes stand here too, each as JSON text.
    pub env: BTreeMap<String, String>,
    /// The `.drv` files it depends on.
    pub inputs: BTreeSet<String>,
    /// Output paths by name; none where the path is known only after the build.
    pub outputs: BTreeMap<String, Option<String>>,
    /// True for a download or another output whose content is fixed beforehand.
    pub fixed: bool,
}

/// Derivations by the absolute path of their `.drv` file.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: HashMap<String, Node>,
}

impl Graph {
    /// Asks Nix for the derivations and everything they depend on; their `.drv` files must be in the store.
    pub fn read(drvs: &[&str], cancel: &Cancel) -> Result<Self> {
        match drvs.is_empty() {
            true => Ok(Self::default()),
            false => Self::parse(&Invocation::new(argv::show_derivations(drvs)).read(cancel)?),
        }
    }

    /// Reads the JSON of any Nix: keys are absolute paths up to 2.31, base names in 2.32, and below
    /// `derivations` from 2.33 (`protocols/json/derivation` in the Nix manual).
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).context("`nix derivation show` printed something that is not JSON")?;
        let Value::Object(mut top) = value else { bail!("`nix derivation show` printed JSON that is no object") };
        let entries = match (top.contains_key("version"), top.remove("derivations")) {
            (true, Some(Value::Object(inner))) => inner,
            (_, None) => top,
            _ => bail!("`nix derivation show` printed a form that Drydock does not know"),
        };
        let store = entries.values().find_map(store_dir).unwrap_or_else(|| "/nix/store".to_owned());
        let mut graph = Self::default();
        for (key, value) in entries {
            let raw: Raw =
                serde_json::from_value(value).with_context(|| format!("cannot read the derivation {key}"))?;
            graph.nodes.insert(absolute(&store, &key), raw.finish(&store, &key));
        }
        Ok(graph)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    structured_attrs: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    input_drvs: BTreeMap<String, Value>,
    #[serde(default)]
    inputs: Option<Inputs>,
    #[serde(default)]
    outputs: BTreeMap<String, Output>,
}

#[derive(Deserialize)]
struct Inputs {
    #[serde(default)]
    drvs: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Output {
    path: Option<String>,
    hash: Option<Value>,
}

impl Raw {
    fn finish(self, store: &str, key: &str) -> Node {
        let Inputs { drvs } = self.inputs.unwrap_or(Inputs { drvs: self.input_drvs });
        let mut env = self.env;
        if let Some(Ok(attrs)) = env.remove("__json").map(|json| serde_json::from_str(&json)) {
            merge(&mut env, attrs);
        }
        merge(&mut env, self.structured_attrs.unwrap_or_default());
        Node {
            name: self.name.unwrap_or_else(|| super::name::of_path(key).trim_end_matches(".drv").to_owned()),
            env,
            inputs: drvs.keys().map(|path| absolute(store, path)).collect(),
            fixed: self.outputs.values().any(|output| output.hash.as_ref().is_some_and(|hash| !hash.is_null())),
            outputs: self.outputs.into_iter().map(|(n, o)| (n, o.path.map(|p| absolute(store, &p)))).collect(),
        }
    }
}

fn merge(env: &mut BTreeMap<String, String>, attrs: BTreeMap<String, Value>) {
    for (key, value) in attrs {
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        env.entry(key).or_insert(text);
    }
}

fn absolute(store: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{store}/{path}"),
    }
}

/// The store's folder, read off an environment that names an output: base names do not tell it.
fn store_dir(value: &Value) -> Option<String> {
    let out = value.get("env")?.get("out")?.as_str()?;
    Some(out.rsplit_once('/')?.0.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn drv(hash: u8, name: &str) -> String {
        format!("/nix/store/{}-{name}.drv", char::from(b'0' + hash).to_string().repeat(32))
    }

    /// A derivation's path, environment and inputs.
    pub type Row<'a> = (String, &'a [(&'a str, &'a str)], &'a [String]);

    pub fn graph(rows: &[Row<'_>]) -> Graph {
        let node = |(path, env, inputs): &Row<'_>| {
            let node = Node {
                name: crate::compare::name::of_path(path).trim_end_matches(".drv").to_owned(),
                env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                inputs: inputs.iter().cloned().collect(),
                ..Node::default()
            };
            (path.clone(), node)
        };
        Graph { nodes: rows.iter().map(node).collect() }
    }

    const LIBC: &str = "00000000000000000000000000000000-libc-2.drv";
    const TOP: &str = "11111111111111111111111111111111-top.drv";

    #[test]
    fn every_generation_means_the_same() {
        let full = format!(
            r#"{{"/nix/store/{TOP}":{{"args":["-c"],"builder":"/bin/sh","env":{{"name":"top","out":"/nix/store/x-top"}},
            "inputDrvs":{{"/nix/store/{LIBC}":["out"]}},"inputSrcs":["/nix/store/s-src"],
            "outputs":{{"out":{{"path":"/nix/store/x-top"}}}},"system":"x86_64-linux"}}}}"#
        );
        let dynamic = full.replace(r#"["out"]"#, r#"{"dynamicOutputs":{},"outputs":["out"]}"#);
        let base = dynamic
            .replace(r#""/nix/store/11"#, r#""11"#)
            .replace(r#""/nix/store/00"#, r#""00"#)
            .replace(r#"["/nix/store/s-src"]"#, r#"["s-src"]"#)
            .replace(r#"{"path":"/nix/store/x-top"}"#, r#"{"path":"x-top"}"#);
        let nested = base
            .replace(r#""inputDrvs":{"#, r#""inputs":{"drvs":{"#)
            .replace(r#","inputSrcs":["s-src"]"#, r#","srcs":["s-src"]}"#);
        let nested = format!(r#"{{"version":4,"derivations":{nested}}}"#);
        let expected = Graph::parse(&full).unwrap();
        let node = &expected.nodes[&format!("/nix/store/{TOP}")];
        assert_eq!((node.name.as_str(), node.fixed), ("top", false));
        assert_eq!(node.inputs.iter().collect::<Vec<_>>(), [&format!("/nix/store/{LIBC}")]);
        for (generation, text) in [("2.18", dynamic), ("2.32", base), ("2.33", nested)] {
            assert_eq!(Graph::parse(&text).unwrap().nodes, expected.nodes, "{generation}");
        }
    }

    #[test]
    fn structured_attributes_stand_in_the_environment() {
        let text = r#"{"/nix/store/00000000000000000000000000000000-a-1.drv":{"env":{"__json":"{\"x\":[1],\"y\":\"z\"}"},
            "outputs":{"out":{"hash":"sha256-abc","path":"/nix/store/q"}}}}"#;
        let graph = Graph::parse(text).unwrap();
        let node = graph.nodes.values().next().unwrap();
        assert_eq!((node.env["x"].as_str(), node.env["y"].as_str(), node.fixed), ("[1]", "z", true));
        assert_eq!(node.name, "a-1");
    }

    #[test]
    fn what_is_no_derivation_is_an_error() {
        for text in ["", "[]", "{\"version\":9,\"derivations\":3}", "{\"a\":{\"env\":3}}"] {
            assert!(Graph::parse(text).is_err(), "{text}");
        }
    }
}
