//! What the gateway's process needs of the system, from what was configured: the key `sandbox`.

use std::{collections::BTreeSet, path::PathBuf};

use super::{Config, Layers, SocketConfig, one};
use crate::{error::ConfigError, needs::Need, sys::sandbox::Openable, transport::Address};

/// Whether the process is held to what it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sandbox {
    /// As far as the system can; what it cannot is said.
    #[default]
    On,
    /// Not at all, which is said.
    Off,
    /// In full, or the gateway does not start.
    Required,
}

impl Sandbox {
    /// Reads the key.
    ///
    /// # Errors
    /// Another word.
    pub fn read(layers: &Layers) -> Result<Self, ConfigError> {
        one(layers, "sandbox", |options, key| match options.take(key)?.as_deref().map(|word| word.trim()) {
            None | Some("on" | "yes") => Ok(Self::On),
            Some("off" | "no") => Ok(Self::Off),
            Some("required") => Ok(Self::Required),
            Some(_) => Err(options.error(key, "there is no such word", "write on, off or required")),
        })
    }
}

/// What the process needs, all of it together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// The directories that it opens something in.
    pub openable: Openable,
    /// What starts programs, if anything.
    pub programs: Option<String>,
    /// What takes the work of a helper, if anything.
    pub helper: Option<String>,
}

impl Config {
    /// What the gateway needs to serve this configuration, and to read it again.
    pub fn needs(&self) -> Needs {
        let mut read: BTreeSet<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        read.extend(self.folders.iter().cloned());
        let mut write = BTreeSet::from([self.state_dir.clone()]);
        let parent = |path: &PathBuf| path.parent().map(PathBuf::from);
        write.extend(self.control.iter().filter_map(parent));
        write.extend(self.audit.iter().filter_map(|audit| parent(&audit.file)));
        if let Some(Address::Unix(path)) = &self.admin {
            write.extend(parent(path));
        }
        let mut needs = Needs::default();
        for socket in &self.sockets {
            if let Address::Unix(path) = &socket.address {
                write.extend(parent(path));
            }
            for (who, need) in of_socket(socket) {
                match need {
                    Need::Read(place) => _ = read.insert(place),
                    Need::Write(place) => _ = write.insert(place),
                    Need::Programs => needs.programs = Some(who),
                    Need::Helper => needs.helper = Some(who),
                }
            }
        }
        let absolute = |place: PathBuf| std::path::absolute(&place).unwrap_or(place);
        needs.openable.read = read.into_iter().map(absolute).collect();
        needs.openable.write = write.into_iter().map(absolute).collect();
        needs
    }
}

/// What one socket needs, and what of it does.
fn of_socket(socket: &SocketConfig) -> impl Iterator<Item = (String, Need)> {
    let own = socket.needs.iter().cloned();
    own.chain(socket.backend.needs().into_iter().map(|need| (format!("backend={}", socket.backend), need)))
}

/// What every process of the system reads: programs' libraries, accounts, names of hosts, authorities, zones, and itself.
/// Directories and not files, for accounts and names are replaced by other files of the same name. What there is
/// secret in them is other users' by its mode.
const SYSTEM: &[&str] = &[
    "/bin",
    "/dev/random",
    "/dev/urandom",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/sss",
    "/var/lib/extrausers",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Paths, modules::Registry};

    fn needs(flags: &[(&str, &str)]) -> Needs {
        let mut layers = Layers::default();
        layers.flag("state-dir", "/var/lib/app").unwrap();
        for (flag, value) in flags {
            layers.flag(flag, value).unwrap();
        }
        let paths = Paths::new(true, "/etc/app", "/run/app", "/nonexistent");
        Config::new(&layers, &Registry::builtin(), &paths).unwrap().needs()
    }

    #[test]
    fn what_is_configured_is_all_that_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pw");
        drop(crate::sys::files::create_private(&file).unwrap());
        std::fs::write(&file, "secret").unwrap();
        let module = format!("/srv/run/a.sock,auth=file(filename={})", file.display());
        let found = needs(&[("bind", &module), ("audit-file", "/var/log/app/audit")]);
        let has =
            |places: &[PathBuf], place: &str| places.iter().any(|known| known == std::path::Path::new(place));
        let Openable { read, write } = &found.openable;
        assert!(
            has(read, folder.path().to_str().unwrap()) && has(read, "/etc/app") && has(read, "/etc"),
            "{read:?}"
        );
        for outside in ["/", "/home", "/root", "/var", "/tmp", "/srv"] {
            assert!(!has(read, outside) && !has(write, outside), "{outside}");
        }
        let all = ["/srv/run", "/var/lib/app", "/var/log/app"].map(PathBuf::from);
        assert_eq!(*write, all);
        assert_eq!((&found.programs, &found.helper), (&None, &None));
    }

    #[test]
    fn what_starts_programs_is_named() {
        let program = needs(&[("bind", "/srv/a,auth=exec(command=/bin/true)")]);
        assert_eq!(program.programs.as_deref(), Some("auth=exec"));
        let backend = needs(&[("bind", "/srv/a,auth=peercred"), ("backend", "exec:/bin/cat secret")]);
        assert_eq!(backend.programs.as_deref(), Some("backend=exec:/bin/cat"));
        let session =
            needs(&[("bind", "/srv/a,auth=peercred"), ("backend", "session:template(path=/run/{uid}/a)")]);
        assert_eq!((session.programs, session.helper.as_deref()), (None, Some("backend=session:template")));
    }

    #[test]
    fn an_unclear_word_is_never_taken_as_off() {
        let read = |word: &str| {
            let mut layers = Layers::default();
            layers.flag("sandbox", word).unwrap();
            Sandbox::read(&layers)
        };
        assert_eq!(read("off").unwrap(), Sandbox::Off);
        assert_eq!(read("required").unwrap(), Sandbox::Required);
        assert_eq!(Sandbox::read(&Layers::default()).unwrap(), Sandbox::On);
        assert!(read("of").is_err() && read("").is_err());
    }
}
