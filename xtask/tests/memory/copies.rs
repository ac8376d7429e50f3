//! What hosts are evaluated on: copies of the source, which a run deletes, and the source itself where its path counts.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use crate::circumstances::Fleet;

/// What a host is evaluated on is no longer in the store when the run is over.
#[test]
fn a_run_leaves_no_copies_of_the_source() {
    let mut fleet = Fleet::new(true);
    // No other test, which would make copies meanwhile, has hosts of these names. The second is called as the copy that
    // the inputs come from could be.
    let host = format!("once{}", std::process::id());
    let names = [("a", host.clone()), ("b", format!("{host}-inputs"))];
    let [mut rows, mut flake] =
        ["hosts/hosts.toml", "flake.nix"].map(|file| fs::read_to_string(fleet.root.join(file)).unwrap());
    for (old, new) in &names {
        rows = rows.replace(&format!("[host.{old}]"), &format!("[host.{new}]"));
        flake = flake.replace(
            &format!("{old} = host \"{old}\" ./hosts/{old}/"),
            &format!("{new} = host \"{old}\" ./hosts/{new}/"),
        );
        fs::rename(fleet.root.join("hosts").join(old), fleet.root.join("hosts").join(new)).unwrap();
    }
    fleet.write("hosts/hosts.toml", &rows);
    fleet.write("flake.nix", &flake);
    fleet.commit();
    fleet.args.extend(["--eval-jobs", "1"].map(str::to_owned));
    let copies = || {
        let store = fs::read_dir("/nix/store").unwrap();
        let names = store.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(&host) && name.ends_with("-source")).collect::<Vec<_>>()
    };
    for motd in ["1\n", "1\n", "2\n"] {
        fs::remove_dir_all(fleet.top.join("cache")).ok();
        fleet.write(&format!("hosts/{host}/motd"), motd);
        assert_eq!(fleet.remembered().len(), 2);
        assert!(copies().is_empty(), "{motd}: {:?}", copies());
    }
}

/// A host whose result holds the path of the source is evaluated twice, but only the first time; when that ends, an edit of
/// what it does not read concerns it no more.
#[test]
fn a_host_that_holds_the_sources_path_is_evaluated_once() {
    const HOLDS: &str = r#"if name == "a" then builtins.trace "at ${baseNameOf self}" "${self}" else "1""#;
    let fleet = Fleet::with(false, "", HOLDS);
    let evaluations = |when: &str| {
        fleet.compare(when);
        fs::write(fleet.root.join("README.md"), when).unwrap();
        let output = fleet.command().output().unwrap();
        fleet.compare(when);
        String::from_utf8_lossy(&output.stderr).matches("trace: at ").count()
    };
    fs::write(fleet.root.join("README.md"), "").unwrap();
    let first = fleet.command().output().unwrap();
    assert_eq!(String::from_utf8_lossy(&first.stderr).matches("trace: at ").count(), 2);
    assert_eq!(evaluations("an edit"), 1);
    let flake = fs::read_to_string(fleet.root.join("flake.nix")).unwrap();
    fleet.write("flake.nix", &flake.replace("${self}", "").replace("${baseNameOf self}", ""));
    assert_eq!(evaluations("an edit that takes the path out, evaluated at the true path"), 1);
    assert_eq!(evaluations("an edit after that, on a copy"), 0);
}

/// Another collector of garbage may hold the store for an hour.
#[test]
fn a_store_that_is_busy_is_not_waited_for() {
    let mut fleet = Fleet::new(false);
    let bin = fleet.top.join("bin");
    fs::create_dir(&bin).unwrap();
    let script =
        "#!/bin/sh\nexport PATH=\"${PATH#*:}\"\n[ \"$1\" != --delete ] || exec sleep 600\nexec nix-store \"$@\"\n";
    fs::write(bin.join("nix-store"), script).unwrap();
    fs::set_permissions(bin.join("nix-store"), fs::Permissions::from_mode(0o755)).unwrap();
    fleet.env.insert("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
    let began = Instant::now();
    assert_eq!(fleet.remembered().len(), 2);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9), "nothing was deleted: {took:?}");
    assert!(took < Duration::from_secs(120), "{took:?}");
}
