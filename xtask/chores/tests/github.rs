//! Runs the chores that write to GitHub with a `gh` that notes what it is told and answers from files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use drydock_nix::files::Temporary;

/// Notes the method, the path and the body of a request, which makes an object with this `sha`. Answers reading from the
/// file that is called like the path, with `_` for what no file name should have; where there is none it fails, as for what
/// GitHub does not have.
const GH: &str = r#"#!/bin/sh
while [ $# -gt 1 ]; do
  [ "$1" != --method ] || method=$2
  shift
done
if [ -n "$method" ]; then
  { printf '%s %s ' "$method" "${1#repos/{owner\}/{repo\}/}"; cat; echo; } >> "$SAID"
  echo '{"sha": "made"}'
else
  cat "$ANSWERS/at$(printf %s "${1#repos/{owner\}/{repo\}}" | tr '/?=&:' _____)"
fi
"#;

const HOST: &str = "[host.a]\ndescription = \"d\"\nsystem = \"x86_64-linux\"\nartifacts = [\"system\"]\ntests = []\n";

const NOTHING: [&str; 0] = [];

struct GitHub {
    dir: Temporary,
    /// The commit of the clone, and its files.
    commit: String,
    tree: String,
}

impl GitHub {
    /// A clone of a fleet with inputs, and reports on it.
    fn new() -> Self {
        let dir = Temporary::new().unwrap();
        for folder in ["bin", "answers", "clone/hosts/a", "clone/drydock-ci/report"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        fs::write(dir.join("bin/gh"), GH).unwrap();
        fs::set_permissions(dir.join("bin/gh"), fs::Permissions::from_mode(0o755)).unwrap();
        let files = [
            ("flake.nix", "{ }"),
            ("hosts/hosts.toml", HOST),
            ("hosts/a/default.nix", "{ }"),
            ("flake.lock", "old\n"),
            ("drydock-ci/update.md", "what changes"),
        ];
        files.into_iter().for_each(|(file, text)| fs::write(dir.join("clone").join(file), text).unwrap());
        let git = |rest: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=n", "-c", "user.email=n@localhost"]).args(rest).current_dir(dir.join("clone"));
            let output = git.env("GIT_CONFIG_GLOBAL", "/dev/null").env_remove("GIT_DIR").output().unwrap();
            assert!(output.status.success(), "git {rest:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet"]);
        git(&["add", "flake.nix", "hosts", "flake.lock"]);
        git(&["commit", "--quiet", "--message=m"]);
        let (commit, tree) = (git(&["rev-parse", "HEAD"]), git(&["rev-parse", "HEAD^{tree}"]));
        Self { dir, commit, tree }
    }

    fn answers(&self, path: &str, text: &str) {
        let file: String = path.chars().map(|c| if "/?=&:".contains(c) { '_' } else { c }).collect();
        fs::write(self.dir.join("answers").join(format!("at{file}")), text).unwrap();
    }

    /// What a chore, which ends with this exit code, wrote to GitHub.
    fn told_by(&self, arguments: &[&str], code: i32) -> Vec<String> {
        let said = self.dir.join("said");
        fs::write(&said, "").unwrap();
        let path = format!("{}:{}", self.dir.join("bin"), std::env::var("PATH").unwrap());
        let mut chore = Command::new(env!("CARGO_BIN_EXE_drydock-chores"));
        chore.args(arguments).current_dir(self.dir.join("clone")).env("PATH", path);
        chore.env("SAID", said.as_str()).env("ANSWERS", self.dir.join("answers").as_str());
        let output = chore.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        fs::read_to_string(said).unwrap().lines().map(str::to_owned).collect()
    }
}

/// One test, because a script that another thread still holds open for writing cannot be run.
#[test]
fn what_github_has_is_renewed_and_what_it_lacks_is_written() {
    let github = GitHub::new();
    comments(&github);
    proposals(&github);
}

fn comments(github: &GitHub) {
    const MARKER: &str = "<!-- drydock: which hosts this changes -->";
    let file = github.dir.join("clone/drydock-ci/report/comment.md");
    let comment = ["comment", "--pull", "7"];
    fs::write(&file, "somebody's text").unwrap();
    assert_eq!(github.told_by(&comment, 2), NOTHING, "only what `ci merge` wrote is a comment of ours");

    fs::write(&file, format!("{MARKER}\ntwo hosts")).unwrap();
    let list = "/issues/7/comments?per_page=100";
    github.answers(list, r#"[[{"id": 1, "body": "hello"}, {"id": 2, "body": null}]]"#);
    let body = format!(r#"{{"body":"{MARKER}\ntwo hosts"}}"#);
    assert_eq!(github.told_by(&comment, 0), [format!("POST issues/7/comments {body}")]);

    github.answers(list, &format!(r#"[[{{"id": 1, "body": "hello"}}], [{{"id": 3, "body": "{MARKER}\nold"}}]]"#));
    assert_eq!(github.told_by(&comment, 0), [format!("PATCH issues/comments/3 {body}")]);
}

fn proposals(github: &GitHub) {
    const BRANCH: &str = "update-flake-inputs";
    let GitHub { commit, tree, .. } = github;
    assert_eq!(github.told_by(&["propose"], 0), NOTHING, "the inputs are as they were");

    fs::write(github.dir.join("clone/flake.lock"), "new\n").unwrap();
    github.answers(&format!("/pulls?state=open&head={{owner}}:{BRANCH}"), "[]");
    github.answers("", r#"{"default_branch": "trunk"}"#);
    let made = [
        format!(
            r#"POST git/trees {{"base_tree":"{tree}","tree":[{{"content":"new\n","mode":"100644","path":"flake.lock","type":"blob"}}]}}"#
        ),
        format!(r#"POST git/commits {{"message":"Update the flake inputs","parents":["{commit}"],"tree":"made"}}"#),
    ];
    let opened = [
        format!(r#"POST git/refs {{"ref":"refs/heads/{BRANCH}","sha":"made"}}"#),
        format!(
            r#"POST pulls {{"base":"trunk","body":"what changes","head":"{BRANCH}","title":"Update the flake inputs"}}"#
        ),
    ];
    assert_eq!(github.told_by(&["propose"], 0), [made.clone(), opened].concat());

    github.answers(&format!("/git/ref/heads/{BRANCH}"), r#"{"object": {"sha": "of last week"}}"#);
    github.answers(&format!("/pulls?state=open&head={{owner}}:{BRANCH}"), r#"[{"number": 9}]"#);
    let renewed = [
        format!(r#"PATCH git/refs/heads/{BRANCH} {{"force":true,"sha":"made"}}"#),
        r#"PATCH pulls/9 {"body":"what changes"}"#.to_owned(),
    ];
    assert_eq!(github.told_by(&["propose"], 0), [made, renewed].concat());

    fs::remove_file(github.dir.join("clone/drydock-ci/update.md")).unwrap();
    assert_eq!(github.told_by(&["propose"], 1), NOTHING, "nothing is proposed without saying what it changes");
}
