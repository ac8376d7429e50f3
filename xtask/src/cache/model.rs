//! A synthetic repository: what it means in, its files as text out. What a job truly uses is told from the
//! meaning, never from the text, so that it can stand witness against what is told from the text.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use super::{
    digest::Digest,
    model_nix::{BODIES, HEAD, HOST},
    tree::{Contents, Entry, Kind, Tree, parent},
};
use crate::job::{JobId, Target};

/// Random numbers of a seed (xorshift64*), so that a failure can be repeated.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// How a Nix file uses another file; each is another way to write it.
#[derive(Clone, Copy, Debug)]
enum Form {
    Import,
    ImportSum,
    ImportBound,
    Path,
    PathSum,
    ReadFile,
    Interpolated,
    /// The folder and everything in it.
    Folder,
    /// The names in a folder.
    Names,
    /// One file of a folder, by a name that is bound elsewhere.
    Dynamic,
}

const NIX_FORMS: [Form; 5] = [Form::Import, Form::ImportSum, Form::ImportBound, Form::Path, Form::PathSum];
const DATA_FORMS: [Form; 4] = [Form::ReadFile, Form::Interpolated, Form::Path, Form::PathSum];

#[derive(Clone, Debug)]
struct Use {
    form: Form,
    /// From the root of the repository; for [`Form::Dynamic`] the file.
    target: String,
}

#[derive(Clone, Debug)]
enum Content {
    Nix { value: usize, comment: usize, uses: Vec<Use> },
    Data(usize),
}

#[derive(Clone, Debug, Default)]
struct Row {
    value: usize,
    peer: Option<String>,
}

/// The meaning of a repository.
#[derive(Clone, Debug)]
pub struct Model {
    /// Which of the ways to write a fleet is in use.
    style: usize,
    /// A number in the fleet's own file, which every job uses.
    fleet: usize,
    uses_self: bool,
    defaults: Option<usize>,
    hosts: BTreeMap<String, Row>,
    files: BTreeMap<String, Content>,
}

const STYLES: usize = BODIES.len();
const DATA: [&str; 5] = ["data/a", "data/b", "data/sub/c", "modules/key.pub", "README.md"];
const MODULES: [&str; 6] =
    ["modules/m0.nix", "modules/m1.nix", "modules/m2.nix", "modules/m3.nix", "modules/dir/default.nix", "lib/l.nix"];

impl Model {
    pub fn new(random: &mut Random) -> Self {
        let mut model = Self {
            style: random.below(STYLES),
            fleet: 0,
            uses_self: false,
            defaults: Some(0),
            hosts: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        model.files.extend(DATA.map(|path| (path.to_owned(), Content::Data(0))));
        model.files.extend(MODULES.map(|path| (path.to_owned(), nix(0))));
        for host in ["h0", "h1", "h2"] {
            model.add_host(host);
        }
        for _ in 0..12 {
            model.add_use(random);
        }
        model
    }

    fn add_host(&mut self, host: &str) {
        self.hosts.insert(host.to_owned(), Row::default());
        self.files.insert(format!("hosts/{host}/default.nix"), nix(0));
        self.files.insert(format!("hosts/{host}/test.py"), Content::Data(0));
    }

    fn add_use(&mut self, random: &mut Random) {
        let users: Vec<String> = self.files.keys().filter(|path| path.ends_with(".nix")).cloned().collect();
        let user = random.pick(&users);
        // Modules use later ones only: Nix would not end otherwise.
        let rank = |path: &str| MODULES.iter().position(|module| *module == path);
        let allowed: Vec<&str> =
            MODULES.iter().filter(|m| rank(&user).is_none_or(|r| rank(m) > Some(r))).copied().collect();
        let new = match random.below(5) {
            0 | 1 if !allowed.is_empty() => {
                let form = random.pick(&NIX_FORMS);
                Use { form, target: random.pick(&allowed).to_owned() }
            }
            2 => Use { form: random.pick(&[Form::Folder, Form::Names]), target: "data".into() },
            3 => Use { form: Form::Dynamic, target: random.pick(&["data/a", "data/b"]).to_owned() },
            _ => Use { form: random.pick(&DATA_FORMS), target: random.pick(&DATA).to_owned() },
        };
        if let Some(Content::Nix { uses, .. }) = self.files.get_mut(&user) {
            uses.push(new);
            uses.truncate(2);
        }
    }

    /// Changes something, and says what.
    pub fn edit(&mut self, random: &mut Random, step: usize) -> String {
        let hosts: Vec<String> = self.hosts.keys().cloned().collect();
        let host = random.pick(&hosts);
        let paths: Vec<String> = self.files.keys().cloned().collect();
        let path = random.pick(&paths);
        match random.below(16) {
            0..=3 => {
                match self.files.get_mut(&path) {
                    Some(Content::Nix { value, .. } | Content::Data(value)) => *value = step,
                    None => {}
                }
                format!("new content in {path}")
            }
            4 => {
                if let Some(Content::Nix { comment, .. }) = self.files.get_mut(&path) {
                    *comment = step;
                }
                format!("a comment in {path}")
            }
            5 | 6 => {
                self.add_use(random);
                "one more use".into()
            }
            7 => {
                if let Some(Content::Nix { uses, .. }) = self.files.get_mut(&path) {
                    uses.pop();
                }
                format!("one use less in {path}")
            }
            8 => {
                self.hosts.entry(host.clone()).or_default().value = step;
                format!("row of {host}")
            }
            9 => {
                self.defaults = random.pick(&[None, Some(step), Some(1)]);
                "defaults".into()
            }
            10 => {
                let peer = random.pick(&hosts);
                self.hosts.entry(host.clone()).or_default().peer = random.pick(&[None, Some(peer)]);
                format!("peer of {host}")
            }
            11 => {
                let live = format!("hosts/{host}/live.nix");
                if self.files.remove(&live).is_none() {
                    self.files.insert(live.clone(), nix(step));
                }
                format!("{live} comes or goes")
            }
            12 => {
                let extra = random.pick(&["data/extra", "data/sub/extra", "ci/x"]).to_owned();
                if self.files.remove(&extra).is_none() {
                    self.files.insert(extra.clone(), Content::Data(step));
                }
                format!("{extra} comes or goes")
            }
            13 => {
                let new = format!("h{}", random.below(6));
                if self.hosts.len() > 2 && self.hosts.remove(&new).is_some() {
                    self.files.retain(|path, _| !path.starts_with(&format!("hosts/{new}/")));
                    self.hosts.values_mut().for_each(|row| row.peer = row.peer.take().filter(|peer| *peer != new));
                    return format!("{new} is gone");
                }
                self.add_host(&new);
                format!("{new} is new")
            }
            14 if random.below(2) == 0 => {
                self.fleet = step;
                "the fleet's own file".into()
            }
            14 => {
                self.uses_self = random.below(4) == 0;
                "self".into()
            }
            _ => {
                self.style = random.below(STYLES);
                format!("style {}", self.style)
            }
        }
    }

    pub fn jobs(&self) -> Vec<JobId> {
        let of_host = |host: &String| {
            ["iso", "system", "tests.system"].map(|target| JobId::try_from(format!("{host}.{target}")).unwrap())
        };
        self.hosts.keys().flat_map(of_host).collect()
    }

    /// All files as text.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<String, String> =
            self.files.iter().map(|(path, content)| (path.clone(), render(path, content))).collect();
        let stamp = if self.uses_self { "self.narHash" } else { "\"\"" };
        let flake = format!("{{ outputs = {{ self, ... }}: import ./fleet.nix {{ stamp = {stamp}; }}; }}\n");
        files.insert("flake.nix".into(), flake);
        files.insert("fleet.nix".into(), HEAD.replace("@N@", &self.fleet.to_string()) + BODIES[self.style]);
        files.insert("host.nix".into(), HOST.into());
        let mut matrix = self.defaults.map_or(String::new(), |value| format!("[defaults]\nbase = {value}\n"));
        for (name, row) in &self.hosts {
            let peer = row.peer.as_ref().map_or(String::new(), |peer| format!("peer = \"{peer}\"\n"));
            write!(matrix, "[host.{name}]\nvalue = {}\n{peer}", row.value).unwrap();
        }
        files.insert("hosts/hosts.toml".into(), matrix);
        files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect()
    }

    pub fn tree(&self) -> Tree {
        tree_of(self.files())
    }

    /// What the job truly uses, spelled out: two states of a repository give it the same derivation exactly
    /// if this is the same text.
    pub fn truth(&self, id: &JobId) -> String {
        let host = id.host.as_str();
        let row = &self.hosts[host];
        let file = |name: &str| format!("hosts/{host}/{name}");
        let base = self.defaults.map_or("-".into(), |value| value.to_string());
        let stamp = if self.uses_self { format!("{:?}", self.files()) } else { String::new() };
        let mut text = format!("{id} style {} {} ", self.style, self.fleet);
        if matches!(id.target, Target::Test(_)) {
            return text + &self.seen(&file("test.py"));
        }
        write!(text, "{stamp} {base} {} {}", row.value, self.seen(&file("default.nix"))).unwrap();
        if id.target.to_string() == "iso" && self.files.contains_key(&file("live.nix")) {
            text += &self.seen(&file("live.nix"));
        }
        if self.style == 2 {
            let names: Vec<&String> = self.hosts.keys().collect();
            write!(text, "{names:?}").unwrap();
            text += &row.peer.as_ref().map_or(String::new(), |peer| self.seen(&format!("hosts/{peer}/default.nix")));
        }
        text + row.peer.as_deref().unwrap_or_default()
    }

    fn seen(&self, path: &str) -> String {
        match &self.files[path] {
            Content::Data(value) => format!("<{path} {value}>"),
            Content::Nix { value, uses, .. } => {
                let uses: Vec<String> = uses.iter().map(|used| self.used(used)).collect();
                format!("({path} {value} {uses:?})")
            }
        }
    }

    fn used(&self, Use { form, target }: &Use) -> String {
        let inside = |path: &&String| path.starts_with(&format!("{target}/"));
        match form {
            Form::Folder => self.files.keys().filter(inside).map(|path| self.seen(path)).collect(),
            Form::Names => {
                let name = |path: &String| path[target.len() + 1..].split('/').next().unwrap_or_default().to_owned();
                let mut names: Vec<String> = self.files.keys().filter(inside).map(name).collect();
                names.dedup();
                format!("{names:?}")
            }
            _ => self.seen(target),
        }
    }
}

pub fn tree_of(files: BTreeMap<String, Vec<u8>>) -> Tree {
    let entry = |content: &[u8]| Entry { kind: Kind::File, digest: Digest::of(content) };
    let entries = files.iter().map(|(path, content)| (path.clone(), entry(content))).collect();
    let contents = Contents::Memory(Arc::new(files));
    Tree { entries, flake: String::new(), identity: Digest::of(b""), contents, overlooked: false }
}

fn nix(value: usize) -> Content {
    Content::Nix { value, comment: 0, uses: Vec::new() }
}

fn render(path: &str, content: &Content) -> String {
    let (value, comment, uses) = match content {
        Content::Data(value) => return format!("data {value}\n"),
        Content::Nix { value, comment, uses } => (value, comment, uses),
    };
    let up = "../".repeat(path.matches('/').count());
    let here = parent(path);
    let mut bound = String::new();
    let mut list = String::new();
    for (index, Use { form, target }) in uses.iter().enumerate() {
        let relative = target.strip_prefix(&format!("{here}/")).map_or(format!("./{up}{target}"), |t| format!("./{t}"));
        let whole = relative.strip_suffix("/default.nix").unwrap_or(&relative);
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        list += &match form {
            Form::Import => format!(" (import {whole})"),
            Form::ImportSum => format!(" (import (./{up}. + \"/{target}\"))"),
            Form::ImportBound => {
                write!(bound, " p{index} = {relative};").unwrap();
                format!(" (import p{index})")
            }
            Form::Path => format!(" {relative}"),
            Form::PathSum => format!(" (./{up}. + \"/{target}\")"),
            Form::ReadFile => format!(" (builtins.readFile {relative})"),
            Form::Interpolated => format!(" \"${{{relative}}}\""),
            Form::Folder => format!(" ./{up}{target}"),
            Form::Names => format!(" (builtins.attrNames (builtins.readDir ./{up}{target}))"),
            Form::Dynamic => {
                write!(bound, " n{index} = \"{name}\";").unwrap();
                format!(" (builtins.readFile ./{up}{folder}/${{n{index}}})")
            }
        };
    }
    format!("# {comment}\nlet{bound} in {{ value = {value}; uses = [{list} ]; }}\n")
}
