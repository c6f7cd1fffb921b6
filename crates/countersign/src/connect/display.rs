//! The sockets of Xpra's sessions on this machine, by the number of their display: `:10`.
//!
//! [`super::Uri`] asks. Folders and names are those that Xpra's servers use (`docs/protocol/xpra.md`, addresses).
//! Others may write into some of these folders: only a socket that we own ourselves is a session of ours (W39).

use std::path::{Path, PathBuf};

use etcetera::{BaseStrategy as _, base_strategy::Xdg};

use crate::{error::ConfigError, sys::accounts};

/// The socket of the session on a display of that number.
///
/// # Errors
/// It is no number, or we have no such session.
pub(super) fn socket_of(number: &str) -> Result<PathBuf, ConfigError> {
    let digits = (1..=5).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        let fix = "write :10, tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH";
        return Err(ConfigError::new(
            "address",
            "it is neither a display nor says what kind of address it is",
            fix,
        ));
    }
    find(&folders(), number, &accounts::host_name(), accounts::own_uid()).ok_or_else(|| {
        let fix = "start it, or write the path of its socket: unix:/run/user/1000/xpra/HOST-10";
        ConfigError::new("address", format!("you have no session on display :{number} here"), fix)
    })
}

/// The first of the two names in the first of the folders that is a socket of `uid`.
fn find(folders: &[PathBuf], number: &str, host: &str, uid: u32) -> Option<PathBuf> {
    let names =
        |folder: &PathBuf| [folder.join(format!("{host}-{number}")), folder.join(number).join("socket")];
    folders.iter().flat_map(names).find(|path| is_socket_of(path, uid))
}

/// Where Xpra's servers put their sockets, the private places first.
fn folders() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    let runtime = runtime.map_or_else(|| format!("/run/user/{}", accounts::own_uid()).into(), PathBuf::from);
    let home = Xdg::new().ok().map(|folders| folders.home_dir().join(".xpra"));
    [runtime.join("xpra"), "/run/xpra".into()].into_iter().chain(home).collect()
}

/// Itself, not what a link names: the link may be somebody else's.
#[cfg(unix)]
fn is_socket_of(path: &Path, uid: u32) -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket() && found.uid() == uid)
}

#[cfg(not(unix))]
fn is_socket_of(_: &Path, _: u32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn a_display_is_the_socket_of_that_name_that_is_our_own() {
        let place = tempfile::tempdir().unwrap();
        let (private, shared) = (place.path().join("private"), place.path().join("shared"));
        std::fs::create_dir_all(private.join("11")).unwrap();
        std::fs::create_dir(&shared).unwrap();
        let folders = [place.path().join("missing"), private.clone(), shared.clone()];
        let _sockets = [
            private.join("here-10"),
            private.join("11/socket"),
            shared.join("here-10"),
            shared.join("here-12"),
        ]
        .map(|path| UnixListener::bind(path).unwrap());
        std::fs::write(private.join("here-12"), "no socket").unwrap();
        symlink(shared.join("here-12"), private.join("here-13")).unwrap();
        let own = accounts::own_uid();
        for (number, found) in [
            ("10", Some(private.join("here-10"))),
            ("11", Some(private.join("11/socket"))),
            ("12", Some(shared.join("here-12"))),
            ("13", None),
            ("1", None),
        ] {
            assert_eq!(find(&folders, number, "here", own), found, "{number}");
            // W39: what somebody else put there is no session of ours.
            assert_eq!(find(&folders, number, "here", own + 1), None, "{number}");
        }
        assert_eq!(find(&folders, "10", "elsewhere", own), None);
    }

    #[test]
    fn what_is_no_number_of_a_display_is_an_error() {
        for wrong in ["", "x", "-1", "10.0", "123456", "../10", "1/2"] {
            assert!(socket_of(wrong).unwrap_err().fix().starts_with("write :10"), "{wrong}");
        }
        assert!(socket_of("65432").unwrap_err().to_string().contains("no session on display :65432"));
    }
}
