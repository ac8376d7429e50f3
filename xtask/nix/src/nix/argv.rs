//! Builds every Nix command line. Pure, so that each is tested as text and can be printed,
//! ready to paste, when it fails.

use camino::{Utf8Path, Utf8PathBuf};

use super::Version;

/// Store paths a command line: 70 bytes each, far below the kernel's limit of 2 MiB for all arguments.
pub const MOST_PATHS: usize = 4000;

/// What every `nix` command starts with: flakes may not be enabled in nix.conf, a fleet's `nixConfig` is
/// never accepted on the user's behalf, and nothing is asked on a terminal.
pub const NIX: [&str; 4] = ["nix", "--extra-experimental-features", "nix-command flakes", "--no-accept-flake-config"];

fn nix(rest: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    NIX.into_iter().map(Into::into).chain(rest.into_iter().map(Into::into)).collect()
}

/// A text as it may stand in the URL of a flake reference (RFC 3986, section 2).
pub fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// `nix --version`.
pub fn version() -> Vec<String> {
    vec!["nix".into(), "--version".into()]
}

/// The effective configuration; `show-config` up to 2.19.
pub fn config(version: Version) -> Vec<String> {
    match version >= (Version { major: 2, minor: 20 }) {
        true => nix(["config", "show"]),
        false => nix(["show-config"]),
    }
}

/// A sign of life from a store, the default one or another; `ping` up to 2.18.
pub fn store_info(version: Version, store: Option<&str>) -> Vec<String> {
    let verb = if version >= (Version { major: 2, minor: 19 }) { "info" } else { "ping" };
    nix(["store", verb].into_iter().chain(store.into_iter().flat_map(|store| ["--store", store])))
}

/// Which of the store paths are not valid.
pub fn invalid(paths: &[&str]) -> Vec<String> {
    ["nix-store", "--check-validity", "--print-invalid"].iter().chain(paths).map(|&s| s.to_owned()).collect()
}

/// Store paths, and everything that refers to them.
pub fn referrers<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    ["nix-store", "--query", "--referrers-closure"].iter().chain(paths).copied().collect()
}

/// Deletes store paths that nobody uses.
pub fn delete<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    ["nix-store", "--delete"].iter().chain(paths).copied().collect()
}

/// Sizes of store paths and their closures; the format is pinned from the version on that has several.
pub fn path_info(version: Version, paths: &[&str]) -> Vec<String> {
    let format = (version >= (Version { major: 2, minor: 33 }) && version.minor < 90).then_some(["--json-format", "1"]);
    let head = ["path-info", "--json", "--size", "--closure-size"];
    nix(head.into_iter().chain(format.into_iter().flatten()).chain(paths.iter().copied()))
}

/// How a flake is read: from which reference, with which inputs replaced.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What stands before the `#` of an installable.
    pub flake: &'a str,
    /// Inputs and what replaces them.
    pub overrides: &'a [(String, String)],
    /// Whether evaluation may build (import-from-derivation).
    pub allow_ifd: bool,
}

impl Source<'_> {
    /// The lock file is the user's: it is never written. Without overrides it must already be complete,
    /// so that parallel evaluators do not each resolve an input on their own.
    fn arguments(&self) -> Vec<String> {
        let mut argv: Vec<String> = Vec::new();
        for (input, flake) in self.overrides {
            argv.extend(["--override-input".to_owned(), input.clone(), flake.clone()]);
        }
        argv.push(if self.overrides.is_empty() { "--no-update-lock-file" } else { "--no-write-lock-file" }.to_owned());
        argv.extend(self.ifd());
        argv
    }

    fn ifd(&self) -> Vec<String> {
        match self.allow_ifd {
            true => Vec::new(),
            false => ["--option", "allow-import-from-derivation", "false"].map(str::to_owned).to_vec(),
        }
    }
}

/// An evaluator that takes expressions on its standard input, one a line, and knows the flake's outputs by
/// their names. It is as pure as `nix eval`, which has to be said. Flakes as its argument were an experimental
/// feature of their own up to 2.21, and up to 2.91 in Lix.
pub fn evaluator(version: Version, source: Source<'_>) -> Vec<String> {
    let old = version < (Version { major: 2, minor: 22 }) || (90..92).contains(&version.minor);
    let feature = old.then_some(["--extra-experimental-features", "repl-flake"]);
    let head = ["repl", "--show-trace", "--option", "pure-eval", "true"];
    let head = head.into_iter().chain(feature.into_iter().flatten()).map(str::to_owned);
    nix(head.chain([source.flake.to_owned()]).chain(source.arguments()))
}

/// An evaluator as [`evaluator`], which knows no flake yet.
pub fn bare_evaluator(source: Source<'_>) -> Vec<String> {
    let head = ["repl", "--show-trace", "--option", "pure-eval", "true"].map(str::to_owned);
    nix(head.into_iter().chain(source.ifd()))
}

/// A commit's files in the store, without regard to the flakes in it.
pub fn fetch_commit(repository: &Utf8Path, commit: &str, shallow: bool) -> Vec<String> {
    let url = format!("file://{}", percent_encoded(repository.as_str()));
    let expression =
        format!("(builtins.fetchGit {{ url = \"{url}\"; rev = \"{commit}\"; shallow = {shallow}; }}).outPath");
    nix(["eval", "--raw", "--expr", &expression])
}

/// Evaluates an attribute and applies a function to it. Nix's evaluation cache does not serve `eval` of a
/// value; switched off, parallel evaluators do not wait for its database.
pub fn eval_apply(source: Source<'_>, attribute: &str, function: &str) -> Vec<String> {
    let head = ["eval", "--json", "--show-trace", "--option", "eval-cache", "false"].map(str::to_owned).into_iter();
    let installable = format!("{}#{attribute}", source.flake);
    nix(head.chain([installable]).chain(source.arguments()).chain(["--apply".to_owned(), function.to_owned()]))
}

/// What a person runs to see the same evaluation error again.
pub fn eval_again(source: Source<'_>, attribute: &str) -> Vec<String> {
    let head = [
        "eval".to_owned(),
        "--raw".to_owned(),
        "--show-trace".to_owned(),
        format!("{}#{attribute}.drvPath", source.flake),
    ];
    std::iter::once("nix".to_owned()).chain(head).chain(source.arguments()).collect()
}

/// Where the flake's source lies in the store, and its revision.
pub fn flake_metadata(source: Source<'_>) -> Vec<String> {
    let head = ["flake", "metadata", "--json"].map(str::to_owned).into_iter();
    let mut arguments = source.arguments();
    arguments.retain(|a| !matches!(a.as_str(), "--option" | "allow-import-from-derivation" | "false"));
    nix(head.chain(arguments).chain([source.flake.to_owned()]))
}

/// Brings every input in flake.lock up to date.
pub fn flake_update(version: Version, inputs: &[String]) -> Vec<String> {
    let inputs = inputs.iter().map(String::as_str);
    match version >= (Version { major: 2, minor: 19 }) || inputs.len() == 0 {
        true => nix(["flake", "update"].into_iter().chain(inputs)),
        false => nix(["flake", "lock"].into_iter().chain(inputs.flat_map(|input| ["--update-input", input]))),
    }
}

/// The size of a path's closure, in words that a remote shell takes as they are.
pub fn closure_size(path: &str) -> Vec<String> {
    ["nix", "--extra-experimental-features", "nix-command", "path-info", "--closure-size", path]
        .map(str::to_owned)
        .to_vec()
}

/// How builds are carried out; everything else is Nix's own configuration.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Builds that one Nix process runs here at once.
    pub max_jobs: Option<u32>,
    /// Seconds after which a single build is stopped.
    pub timeout: Option<u64>,
    /// Seconds without output after which a single build is stopped.
    pub max_silent_time: Option<u64>,
    /// The remote builders to use instead of the configured ones, as in machines(5).
    pub builders: Option<String>,
    /// Build again what is valid already, and compare.
    pub rebuild: bool,
    /// Links that keep alive what was built: this one, and with `-1`, `-2` and so on for further derivations.
    pub out_link: Option<Utf8PathBuf>,
    /// Settings of nix.conf(5) for this build, by their names.
    pub settings: Vec<(&'static str, String)>,
}

impl BuildOptions {
    fn arguments(&self) -> Vec<String> {
        // Several Nix processes build at once and may want the same derivation: the one that waits looks
        // every second, not every five, whether the other is done.
        let mut argv: Vec<String> = ["--option", "build-poll-interval", "1"].map(str::to_owned).to_vec();
        let numbers = [
            ("--max-jobs", self.max_jobs.map(u64::from)),
            ("--timeout", self.timeout),
            ("--max-silent-time", self.max_silent_time),
        ];
        for (name, number) in numbers {
            argv.extend(number.into_iter().flat_map(|n| [name.to_owned(), n.to_string()]));
        }
        argv.extend(self.builders.iter().flat_map(|lines| ["--builders".to_owned(), lines.clone()]));
        for (name, value) in &self.settings {
            argv.extend(["--option".to_owned(), (*name).to_owned(), value.clone()]);
        }
        argv.extend(self.rebuild.then(|| "--rebuild".to_owned()));
        argv
    }
}

/// Realises derivations, whatever happens to any of them, and reports events.
pub fn build(drvs: &[&str], options: &BuildOptions) -> Vec<String> {
    let link = match &options.out_link {
        Some(link) => vec!["--out-link".to_owned(), link.to_string()],
        None => vec!["--no-link".to_owned()],
    };
    let head = ["build", "--keep-going", "--log-format", "internal-json"].map(str::to_owned).into_iter();
    nix(head.chain(link).chain(options.arguments()).chain(drvs.iter().map(|drv| format!("{drv}^*"))))
}

/// Builds one attribute of a flake and prints its output paths.
pub fn build_attribute(source: Source<'_>, attribute: &str) -> Vec<String> {
    let head = ["build", "--no-link", "--print-out-paths"].map(str::to_owned);
    nix(head.into_iter().chain(source.arguments()).chain([format!("{}#{attribute}", source.flake)]))
}

/// Builds a derivation and prints its output paths.
pub fn build_output(drv: &str) -> Vec<String> {
    nix(["build", "--no-link", "--print-out-paths", &format!("{drv}^*")])
}

/// Builds something that was never built before in the configured sandbox, or not at all.
pub fn sandbox_probe(system: &str, number: u128) -> Vec<String> {
    let expression = format!(
        "derivation {{ name = \"drydock-probe-{number}\"; system = \"{system}\"; builder = \"/bin/sh\"; \
         args = [ \"-c\" \": > $out\" ]; }}"
    );
    // Here, and by no remote builder.
    let here = ["build", "--no-link", "--builders", "", "--max-jobs", "1", "--option", "sandbox-fallback", "false"];
    nix(here.into_iter().chain(["--impure", "--expr", &expression]))
}

/// What a person runs to see one derivation fail again.
pub fn build_again(drv: &str) -> Vec<String> {
    ["nix", "build", "--no-link", "--print-build-logs", &format!("{drv}^*")].map(str::to_owned).to_vec()
}

/// Which derivations would be built and which paths fetched, on stderr; `store` is asked besides the substituters.
pub fn dry_run(drvs: &[&str], store: Option<&str>) -> Vec<String> {
    let head = ["build", "--no-link", "--dry-run"].into_iter();
    let store = store.into_iter().flat_map(|store| ["--option", "extra-substituters", store]);
    nix(head.chain(store).map(str::to_owned).chain(drvs.iter().map(|drv| format!("{drv}^*"))))
}

/// Copies paths and everything that they refer to into another store.
pub fn copy_to<'a>(store: &'a str, paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    nix(["copy", "--to", store].into_iter().chain(paths))
}

/// Copies a system to a machine that trusts us, which fetches what it can where it is told to.
pub fn copy_to_machine(store: &str, substitute: bool, system: &str) -> Vec<String> {
    let head = ["copy", "--no-check-sigs", "--to", store].into_iter();
    nix(head.chain(substitute.then_some("--substitute-on-destination")).chain([system]))
}

/// The sizes of store paths themselves, in bytes, one a line.
pub fn sizes(paths: &[&str]) -> Vec<String> {
    ["nix-store", "--query", "--size"].iter().chain(paths).map(|&s| s.to_owned()).collect()
}

/// All derivations that the given ones depend on, themselves included.
pub fn requisites(drvs: &[&str]) -> Vec<String> {
    ["nix-store", "--query", "--requisites"].iter().chain(drvs).map(|&s| s.to_owned()).collect()
}

/// The derivations and everything they depend on, as JSON.
pub fn show_derivations(drvs: &[&str]) -> Vec<String> {
    nix(["derivation", "show", "--recursive"].into_iter().chain(drvs.iter().copied()))
}

/// The log of a derivation's last build.
pub fn log(drv: &str) -> Vec<String> {
    nix(["log", drv])
}

/// The log of a build that was made here: no cache is asked, which takes seconds where there is no network.
pub fn own_log(drv: &str) -> Vec<String> {
    nix(["log", "--option", "substituters", "", drv])
}

/// Keeps store paths alive: `root`, `root-2`, `root-3` and so on become links to them, in their order.
pub fn add_roots(root: &str, paths: &[&str]) -> Vec<String> {
    let head = ["nix-store", "--realise", "--add-root", root];
    head.iter().chain(paths).map(|&s| s.to_owned()).collect()
}

/// The SHA-256 of a file's content, in hexadecimal as `sha256sum` writes it.
pub fn sha256(files: &[&str]) -> Vec<String> {
    nix(["hash", "file", "--type", "sha256", "--base16"].into_iter().chain(files.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argv: &[String], expected: &str) {
        let text = argv.iter().map(|a| crate::process::quote(a)).collect::<Vec<_>>().join(" ");
        let prefix = "nix --extra-experimental-features 'nix-command flakes' --no-accept-flake-config ";
        assert_eq!(text.replace(prefix, "nix … "), expected);
    }

    const V: fn(u32) -> Version = |minor| Version { major: 2, minor };

    #[test]
    fn command_lines() {
        let overrides = [("nixpkgs".to_owned(), "path:/n".to_owned())];
        let plain = Source { flake: "path:/f", overrides: &[], allow_ifd: false };
        let replaced = Source { flake: "path:/f", overrides: &overrides, allow_ifd: true };
        let settings = vec![("system-features", "big".to_owned())];
        let options = BuildOptions { max_jobs: Some(2), timeout: Some(60), settings, ..Default::default() };
        check(&config(V(18)), "nix … show-config");
        check(&config(V(26)), "nix … config show");
        check(&path_info(V(26), &["/a"]), "nix … path-info --json --size --closure-size /a");
        check(&path_info(V(34), &["/a"]), "nix … path-info --json --size --closure-size --json-format 1 /a");
        check(&path_info(V(93), &["/a"]), "nix … path-info --json --size --closure-size /a");
        check(&store_info(V(18), None), "nix … store ping");
        check(&store_info(V(26), Some("ssh://b")), "nix … store info --store ssh://b");
        check(&invalid(&["/a", "/b"]), "nix-store --check-validity --print-invalid /a /b");
        check(
            &evaluator(V(26), plain),
            "nix … repl --show-trace --option pure-eval true path:/f --no-update-lock-file --option allow-import-from-derivation false",
        );
        check(
            &evaluator(V(18), replaced),
            "nix … repl --show-trace --option pure-eval true --extra-experimental-features repl-flake path:/f --override-input nixpkgs path:/n --no-write-lock-file",
        );
        check(
            &eval_apply(plain, "hydraJobs", "j: 1"),
            "nix … eval --json --show-trace --option eval-cache false path:/f#hydraJobs --no-update-lock-file --option allow-import-from-derivation false --apply 'j: 1'",
        );
        check(
            &eval_apply(replaced, "hydraJobs", "j: 1"),
            "nix … eval --json --show-trace --option eval-cache false path:/f#hydraJobs --override-input nixpkgs path:/n --no-write-lock-file --apply 'j: 1'",
        );
        check(
            &eval_again(plain, "hydraJobs.a.iso"),
            "nix eval --raw --show-trace path:/f#hydraJobs.a.iso.drvPath --no-update-lock-file --option allow-import-from-derivation false",
        );
        check(&flake_metadata(plain), "nix … flake metadata --json --no-update-lock-file path:/f");
        check(
            &build(&["/a.drv"], &options),
            "nix … build --keep-going --log-format internal-json --no-link --option build-poll-interval 1 --max-jobs 2 --timeout 60 --option system-features big '/a.drv^*'",
        );
        let linked = BuildOptions { out_link: Some("/r".into()), ..Default::default() };
        check(
            &build(&["/a.drv"], &linked),
            "nix … build --keep-going --log-format internal-json --out-link /r --option build-poll-interval 1 '/a.drv^*'",
        );
        check(&build_again("/a.drv"), "nix build --no-link --print-build-logs '/a.drv^*'");
        check(
            &build_attribute(replaced, "x.driver"),
            "nix … build --no-link --print-out-paths --override-input nixpkgs path:/n --no-write-lock-file path:/f#x.driver",
        );
        check(&build_output("/a.drv"), "nix … build --no-link --print-out-paths '/a.drv^*'");
        check(&copy_to("file:///c", ["/a", "/b"].into_iter()), "nix … copy --to file:///c /a /b");
        check(
            &copy_to_machine("ssh-ng://h", true, "/a"),
            "nix … copy --no-check-sigs --to ssh-ng://h --substitute-on-destination /a",
        );
        check(&sizes(&["/a"]), "nix-store --query --size /a");
        check(&dry_run(&["/a.drv"], None), "nix … build --no-link --dry-run '/a.drv^*'");
        check(&add_roots("/r", &["/a", "/b"]), "nix-store --realise --add-root /r /a /b");
        check(
            &sandbox_probe("s", 7),
            "nix … build --no-link --builders '' --max-jobs 1 --option sandbox-fallback false --impure --expr 'derivation { name = \"drydock-probe-7\"; system = \"s\"; builder = \"/bin/sh\"; args = [ \"-c\" \": > $out\" ]; }'",
        );
        check(&own_log("/a.drv"), "nix … log --option substituters '' /a.drv");
        check(&sha256(&["/a"]), "nix … hash file --type sha256 --base16 /a");
    }
}
