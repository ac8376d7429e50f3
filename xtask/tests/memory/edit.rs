//! Makes one random change of a fleet, and describes it in words.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::{Duration, SystemTime},
};

use super::fleet::{FLAKES, Fleet, KINDS, Random, host, module};

impl Fleet {
    /// Changes one thing and says what. In a repository most changes become known to Git in some way.
    pub fn edit(&mut self, random: &mut Random) -> String {
        self.mend(random);
        let what = match random.below(18) {
            0 | 1 => self.edit_host(random),
            2 => self.edit_row(random),
            3 => self.new_host(random),
            4 => self.lose_host(random),
            5 => self.rename_host(random),
            6 => {
                let number = random.below(3);
                self.write(&format!("modules/m{number}.nix"), &module(number, random));
                format!("modules/m{number}.nix")
            }
            7 => self.same_size(random),
            8 => self.names_in_data(random),
            9 => self.mode(random),
            10 => {
                self.write("files/deep/conf", &format!("{}\n", random.below(3)));
                "files/deep/conf".into()
            }
            11 => {
                self.write("README.md", &format!("{}\n", random.below(9)));
                "README.md".into()
            }
            12 => {
                let number = random.below(FLAKES.len());
                self.write("flake.nix", FLAKES[number]);
                format!("flake {number}")
            }
            13 => {
                let path = self.any_file(random);
                let now = SystemTime::now();
                File::open(self.root.join(&path)).unwrap().set_modified(now).unwrap();
                format!("{path} touched")
            }
            14 => self.kind_of_data(random),
            15 => {
                let state = self.states[random.below(self.states.len())].clone();
                self.restore(&state);
                "back to an earlier state".into()
            }
            16 => {
                let (mut rows, defaults) = self.rows();
                rows.values_mut().for_each(|text| *text = "0".into());
                let tag = if defaults == "t0" { "t1" } else { "t0" };
                self.write_rows(&rows, tag);
                "defaults".into()
            }
            _ => {
                let state = self.files();
                self.states.push(state);
                "this state noted".into()
            }
        };
        if self.git { format!("{what}, {}", self.tell_git(random)) } else { what }
    }

    /// Changes something for a moment and makes everything as it was, times included as far as a program can.
    pub fn edit_and_back(&self, random: &mut Random) -> String {
        let pause = Duration::from_millis(50 + random.below(300) as u64);
        if self.git && random.below(3) == 0 {
            self.write("data/zz.txt", "0\n");
            self.git(&["add", "--intent-to-add", "data/zz.txt"]);
            std::thread::sleep(pause);
            self.git(&["rm", "--quiet", "--force", "--cached", "data/zz.txt"]);
            fs::remove_file(self.root.join("data/zz.txt")).unwrap();
            return format!("data/zz.txt known to Git for {pause:?}");
        }
        let path = self.any_file(random);
        let full = self.root.join(&path);
        let (content, times) = (fs::read(&full).unwrap(), full.metadata().unwrap().modified().unwrap());
        let other = content.iter().map(|byte| if *byte == b'0' { b'7' } else { *byte }).collect::<Vec<_>>();
        fs::write(&full, other).unwrap();
        std::thread::sleep(pause);
        fs::write(&full, content).unwrap();
        File::open(&full).unwrap().set_modified(times).unwrap();
        format!("{path} changed for {pause:?}")
    }

    /// What Git or an earlier edit left, such as a host's folder without a row, would have every run refused.
    fn mend(&self, random: &mut Random) {
        let (rows, _) = self.rows();
        for entry in self.root.join("hosts").read_dir_utf8().unwrap() {
            let name = entry.unwrap().file_name().to_owned();
            if name != "hosts.toml" && !rows.contains_key(&name) {
                self.remove(&format!("hosts/{name}"));
            }
        }
        for name in rows.keys() {
            let file = format!("hosts/{name}/default.nix");
            if !self.root.join(&file).exists() {
                self.write(&file, &host(random.below(KINDS - 2), random));
            }
        }
        if self.git {
            self.git(&["add", "--intent-to-add", "."]);
        }
    }

    fn edit_host(&self, random: &mut Random) -> String {
        let name = self.host(random);
        if random.below(4) == 0 {
            let extra = format!("hosts/{name}/extra.nix");
            match self.root.join(&extra).exists() && random.below(2) == 0 {
                true => fs::remove_file(self.root.join(&extra)).unwrap(),
                false => self.write(&extra, &format!("\"e{}\"\n", random.below(3))),
            }
            return extra;
        }
        // Broken hosts are rarer than others.
        let broken = random.below(3) == 0;
        let kind = random.below(if broken { KINDS } else { KINDS - 2 });
        self.write(&format!("hosts/{name}/default.nix"), &host(kind, random));
        format!("{name} is of kind {kind}")
    }

    fn edit_row(&self, random: &mut Random) -> String {
        let (mut rows, defaults) = self.rows();
        let name = self.host(random);
        rows.insert(name.clone(), random.below(3).to_string());
        self.write_rows(&rows, &defaults);
        format!("row of {name}")
    }

    fn new_host(&self, random: &mut Random) -> String {
        let (mut rows, defaults) = self.rows();
        let name = format!("h{}", random.below(10));
        rows.insert(name.clone(), "0".into());
        self.write(&format!("hosts/{name}/default.nix"), &host(random.below(KINDS - 2), random));
        self.write_rows(&rows, &defaults);
        format!("host {name}")
    }

    fn lose_host(&self, random: &mut Random) -> String {
        let (mut rows, defaults) = self.rows();
        let name = self.host(random);
        if rows.len() > 3 {
            rows.remove(&name);
            fs::remove_dir_all(self.root.join("hosts").join(&name)).unwrap();
            self.write_rows(&rows, &defaults);
        }
        format!("no host {name}")
    }

    fn rename_host(&self, random: &mut Random) -> String {
        let (mut rows, defaults) = self.rows();
        let (old, new) = (self.host(random), format!("h{}", random.below(10)));
        if rows.contains_key(&new) {
            return "nothing".into();
        }
        let text = rows.remove(&old).unwrap();
        rows.insert(new.clone(), text);
        let hosts = self.root.join("hosts");
        let _ = fs::remove_dir_all(hosts.join(&new));
        fs::rename(hosts.join(&old), hosts.join(&new)).unwrap();
        self.write_rows(&rows, &defaults);
        format!("{old} is called {new}")
    }

    /// Another content of the same size and with the same time of modification.
    fn same_size(&self, random: &mut Random) -> String {
        let path = self.any_file(random);
        let full = self.root.join(&path);
        let times = full.metadata().unwrap().modified().unwrap();
        let mut content = fs::read(&full).unwrap();
        let digits: Vec<usize> = (0..content.len()).filter(|at| (b'0'..b'3').contains(&content[*at])).collect();
        if digits.is_empty() || path == "lib/build.nix" {
            return "nothing".into();
        }
        content[digits[random.below(digits.len())]] = b'0' + random.below(3) as u8;
        fs::write(&full, content).unwrap();
        File::open(&full).unwrap().set_modified(times).unwrap();
        format!("{path}, same size and time")
    }

    fn names_in_data(&self, random: &mut Random) -> String {
        let path = format!("data/d{}.txt", [0, 1, 3, 4][random.below(4)]);
        match self.root.join(&path).exists() && random.below(2) == 0 {
            true => fs::remove_file(self.root.join(&path)).unwrap(),
            false => self.write(&path, &format!("{}\n", random.below(3))),
        }
        path
    }

    fn mode(&self, random: &mut Random) -> String {
        let path = ["files/run.sh", "files/deep/conf", "README.md"][random.below(3)];
        let full = self.root.join(path);
        let mode = full.metadata().unwrap().permissions().mode() ^ 0o111;
        fs::set_permissions(full, Permissions::from_mode(mode)).unwrap();
        format!("mode of {path}")
    }

    /// A file becomes a symbolic link to another, or a folder, or a file again.
    fn kind_of_data(&self, random: &mut Random) -> String {
        self.remove("data/d2.txt");
        let path = self.root.join("data/d2.txt");
        match random.below(3) {
            0 => symlink("d1.txt", &path).unwrap(),
            1 => self.write("data/d2.txt/inside", "0\n"),
            _ => self.write("data/d2.txt", "0\n"),
        }
        "the kind of data/d2.txt".into()
    }

    fn any_file(&self, random: &mut Random) -> String {
        let files: Vec<String> = self.files().into_keys().map(camino::Utf8PathBuf::into_string).collect();
        files[random.below(files.len())].clone()
    }

    fn tell_git(&self, random: &mut Random) -> &'static str {
        match random.below(12) {
            0..=3 => {
                self.git(&["add", "--intent-to-add", "."]);
                "intended"
            }
            4..=6 => {
                self.git(&["add", "--all"]);
                "added"
            }
            7 | 8 => {
                self.git(&["add", "--all"]);
                self.commit();
                "committed"
            }
            9 => {
                self.commit();
                "what is tracked committed"
            }
            10 => match random.below(3) {
                0 => {
                    self.git(&["reset", "--quiet", "--hard"]);
                    "all undone"
                }
                1 => {
                    self.git(&["reset", "--quiet"]);
                    "index undone"
                }
                _ => {
                    // There may be no commit to go back to, or files in its way.
                    self.try_git(&["checkout", "--quiet", "--force", "HEAD~1"]);
                    "back a commit"
                }
            },
            _ => "untold",
        }
    }
}
