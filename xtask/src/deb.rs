//! `cargo xtask deb`: the Debian package, from a staged tree and `dpkg-deb`.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::step::{Failed, cannot_start, cargo, run, timed};

/// Builds the package: `[--binary FILE] [--to FOLDER] [--compress none]`. Without a program it is built for release
/// first.
pub(crate) fn build(arguments: &[&str]) -> Result<(), Failed> {
    let options = Options::read(arguments)?;
    let binary = match options.binary {
        Some(binary) => binary,
        None => {
            run("the program", &mut cargo(["build", "--release", "--package", "countersign-cli"]))?;
            PathBuf::from("target/release/countersign")
        }
    };
    timed("the Debian package", || {
        let architecture = said(Command::new("dpkg").arg("--print-architecture"))?;
        let name = format!("countersign_{}_{}", env!("CARGO_PKG_VERSION"), architecture.trim());
        fs::create_dir_all(&options.to)?;
        let tree = Tree::empty(options.to.join(&name))?;
        tree.stage(&binary)?;
        tree.describe(architecture.trim())?;
        let package = options.to.join(format!("{name}.deb"));
        let compress = format!("-Z{}", options.compress);
        let words = ["--root-owner-group", &compress, "--build"];
        said(Command::new("dpkg-deb").args(words).arg(&tree.0).arg(&package))?;
        fs::remove_dir_all(&tree.0)?;
        println!("{}", package.display());
        Ok(())
    })
}

struct Options {
    binary: Option<PathBuf>,
    to: PathBuf,
    /// As `dpkg-deb` names it.
    compress: String,
}

impl Options {
    fn read(arguments: &[&str]) -> Result<Self, Failed> {
        let mut options =
            Self { binary: None, to: PathBuf::from("target/debian"), compress: "xz".to_owned() };
        for pair in arguments.chunks(2) {
            match *pair {
                ["--binary", file] => options.binary = Some(file.into()),
                ["--to", folder] => options.to = folder.into(),
                ["--compress", how] => options.compress = how.to_owned(),
                _ => {
                    let usage = "write: cargo xtask deb [--binary FILE] [--to FOLDER] [--compress none]";
                    return Err(Failed(usage.to_owned()));
                }
            }
        }
        Ok(options)
    }
}

/// A folder that looks as the package will when it is installed.
struct Tree(PathBuf);

impl Tree {
    fn empty(path: PathBuf) -> Result<Self, Failed> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(&path)?,
        }
        Ok(Self(path))
    }

    /// Everything that is installed.
    fn stage(&self, binary: &Path) -> Result<(), Failed> {
        self.place(binary, "usr/bin/countersign", 0o755)?;
        for unit in ["countersign.service", "countersign@.service", "countersign.socket"] {
            let to = format!("usr/lib/systemd/system/{unit}");
            self.place(&Path::new("packaging/systemd").join(unit), &to, 0o644)?;
        }
        for (from, to) in PLACED {
            self.place(Path::new(from), to, 0o644)?;
        }
        fs::create_dir_all(self.0.join("etc/countersign/conf.d"))?;
        self.manual()?;
        self.completions(binary)
    }

    fn manual(&self) -> Result<(), Failed> {
        for page in fs::read_dir("docs/man")? {
            let page = page?.path();
            if let Some(name) = page.file_name().and_then(|name| name.to_str()) {
                let to = format!("usr/share/man/man1/{name}");
                self.place(&page, &to, 0o644)?;
                said(Command::new("gzip").args(["-9", "--no-name"]).arg(self.0.join(to)))?;
            }
        }
        Ok(())
    }

    /// As the program itself writes them.
    fn completions(&self, binary: &Path) -> Result<(), Failed> {
        let made = self.0.join("made");
        fs::create_dir_all(&made)?;
        said(Command::new(binary).args(["generate", "completions"]).arg(&made))?;
        for (from, to) in COMPLETIONS {
            self.place(&made.join(from), to, 0o644)?;
        }
        Ok(fs::remove_dir_all(made)?)
    }

    /// What the package manager is told: `DEBIAN/`.
    fn describe(&self, architecture: &str) -> Result<(), Failed> {
        let size = said(Command::new("du").args(["--summarize", "--block-size=1024"]).arg(&self.0))?;
        let size = size.split_whitespace().next().unwrap_or("0").to_owned();
        let library = said(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
        let library = library.split_whitespace().nth(1).unwrap_or("2.36").to_owned();
        let sums = "cd \"$1\" && find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 md5sum";
        let sums = said(Command::new("sh").args(["-c", sums, "sh"]).arg(&self.0))?;
        let control = self.0.join("DEBIAN");
        fs::create_dir_all(&control)?;
        fs::write(control.join("md5sums"), sums)?;
        fs::write(control.join("conffiles"), "/etc/countersign/countersign.toml\n")?;
        fs::write(control.join("control"), control_of(architecture, &size, &library))?;
        for script in ["postinst", "prerm", "postrm"] {
            self.place(&Path::new("packaging/debian").join(script), &format!("DEBIAN/{script}"), 0o755)?;
        }
        Ok(())
    }

    fn place(&self, from: &Path, to: &str, mode: u32) -> Result<(), Failed> {
        let to = self.0.join(to);
        fs::create_dir_all(to.parent().unwrap_or(&self.0))?;
        fs::copy(from, &to).map_err(|error| Failed(format!("{}: {error}", from.display())))?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(mode))?)
    }
}

/// The package as `dpkg` knows it. Libraries that modules load when they are configured are suggested.
fn control_of(architecture: &str, size: &str, library: &str) -> String {
    format!(
        "Package: countersign\n\
         Version: {}\n\
         Architecture: {architecture}\n\
         Maintainer: The countersign developers <countersign@localhost>\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {library}), libgcc-s1, passwd\n\
         Suggests: libpam0g, libkrb5-3, libgssapi-krb5-2\n\
         Section: net\n\
         Priority: optional\n\
         Homepage: {}\n\
         Description: authentication in front of any daemon\n \
         A gateway that listens on sockets of many kinds, authenticates each client by\n \
         a chain of modules (certificates, passwords, PAM, LDAP, Kerberos, security\n \
         keys and more), and hands the stream to the daemon behind it, with the\n \
         verified identity. Clients of Xpra and Multipass log in as they are.\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_REPOSITORY"),
    )
}

/// The output of a command that ends with success.
fn said(command: &mut Command) -> Result<String, Failed> {
    let output = command.output().map_err(|error| cannot_start(command, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(Failed(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Files as they are, and where they go.
const PLACED: &[(&str, &str)] = &[
    ("packaging/countersign.toml", "etc/countersign/countersign.toml"),
    ("packaging/sysusers.d/countersign.conf", "usr/lib/sysusers.d/countersign.conf"),
    ("packaging/tmpfiles.d/countersign.conf", "usr/lib/tmpfiles.d/countersign.conf"),
    ("packaging/systemd/helper.conf", "usr/share/doc/countersign/examples/helper.conf"),
    ("packaging/debian/copyright", "usr/share/doc/countersign/copyright"),
    ("CHANGELOG.md", "usr/share/doc/countersign/changelog"),
    ("docs/privileges.md", "usr/share/doc/countersign/privileges.md"),
];

/// What `generate completions` writes, and where shells look.
const COMPLETIONS: &[(&str, &str)] = &[
    ("countersign.bash", "usr/share/bash-completion/completions/countersign"),
    ("_countersign", "usr/share/zsh/vendor-completions/_countersign"),
    ("countersign.fish", "usr/share/fish/vendor_completions.d/countersign.fish"),
];
