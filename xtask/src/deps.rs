//! The programs that the tests run against, installed where apt-get is and only if they are missing.

use std::{fs, path::Path, process::Command};

use crate::step::{Failed, is_installed, run, skipped, succeeds};

/// Installs what is missing. Nothing is started, stopped or upgraded on the way.
pub(crate) fn install() -> Result<(), Failed> {
    install_these(NEEDED)
}

/// The same for these programs and their packages.
pub(crate) fn install_these(needed: &[(&str, &str)]) -> Result<(), Failed> {
    let missing: Vec<_> = needed.iter().filter(|(program, _)| !is_there(program)).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        skipped("programs for the tests", "all of them are installed");
        return Ok(());
    }
    let list = packages.join(" ");
    let mut command = installer().ok_or_else(|| {
        Failed(format!("the tests need programs that are not installed, and only root can install them. Run: apt-get install {list}"))
    })?;
    run(&format!("programs for the tests: {list}"), command.args(["-c", INSTALL, "sh"]).args(&packages))
}

/// The shell that may install, as root or through sudo.
fn installer() -> Option<Command> {
    if !is_installed("apt-get") {
        return None;
    }
    if succeeds("sh", &["-c", "test \"$(id -u)\" = 0"]) {
        return Some(Command::new("sh"));
    }
    is_installed("sudo").then(|| {
        let mut command = Command::new("sudo");
        command.arg("sh");
        command
    })
}

fn is_there(program: &str) -> bool {
    if program == "postgres" {
        // Debian keeps the server's programs off the search path, one folder per major version.
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        return is_installed(program)
            || versions.into_iter().any(|version| version.path().join("bin/postgres").is_file());
    }
    if program.starts_with('/') { Path::new(program).is_file() } else { is_installed(program) }
}

/// A program or the path of a file, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("xpra", "xpra"),
    // A session that shows a window needs it, and Debian only recommends it.
    ("/usr/lib/python3/dist-packages/PIL/Image.py", "python3-pil"),
    ("Xvfb", "xvfb"),
    ("xauth", "xauth"),
    // Other versions of it are built from their sources (`xpra.rs`).
    ("pip3", "python3-pip"),
    ("/usr/lib/python3/dist-packages/setuptools/__init__.py", "python3-setuptools"),
    ("python3-config", "python3-dev"),
    ("/usr/include/lz4.h", "liblz4-dev"),
    ("/usr/include/security/pam_appl.h", "libpam0g-dev"),
    // What a server of it asks a directory with.
    ("/usr/lib/python3/dist-packages/ldap/__init__.py", "python3-ldap"),
    ("postgres", "postgresql"),
    ("psql", "postgresql-client"),
    ("mariadbd", "mariadb-server"),
    ("mariadb", "mariadb-client"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("nginx", "nginx-light"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("slapd", "slapd"),
    ("ldapwhoami", "ldap-utils"),
    ("socat", "socat"),
    // The tests call its library, libwrap, as well.
    ("tcpdmatch", "tcpd"),
    ("python3", "python3"),
    // The tests call its library.
    ("gsasl", "gsasl"),
    ("ssh-keygen", "openssh-client"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/lib/python3/dist-packages/grpc/__init__.py", "python3-grpcio"),
    ("/usr/lib/python3/dist-packages/google/protobuf/__init__.py", "python3-protobuf"),
    ("/usr/lib/python3/dist-packages/fido2/__init__.py", "python3-fido2"),
    ("protoc", "protobuf-compiler"),
    ("/usr/lib/python3/dist-packages/websockets/__init__.py", "python3-websockets"),
    ("/usr/sbin/krb5kdc", "krb5-kdc"),
    ("/usr/sbin/kadmin.local", "krb5-admin-server"),
    ("kinit", "krb5-user"),
    ("/usr/lib/python3/dist-packages/gssapi/__init__.py", "python3-gssapi"),
    // What Xpra's client makes its tickets with; its own file has Python's version in its name.
    ("/usr/share/doc/python3-kerberos/copyright", "python3-kerberos"),
    ("/usr/lib/python3/dist-packages/jwt/__init__.py", "python3-jwt"),
    ("/usr/lib/python3/dist-packages/cryptography/__init__.py", "python3-cryptography"),
    ("script", "bsdutils"),
    ("strace", "strace"),
    // Its library is put under a program; the folder has the architecture's name.
    ("faketime", "faketime"),
    ("pinentry-tty", "pinentry-tty"),
    // Judges the units; nothing of it is started.
    ("systemd-analyze", "systemd"),
    ("useradd", "passwd"),
    ("setpriv", "util-linux"),
    // Their modules lie in another folder on each architecture, their copyright does not.
    ("/usr/share/doc/libpam-wrapper/copyright", "libpam-wrapper"),
    ("/usr/share/doc/libpam-oath/copyright", "libpam-oath"),
    ("oathtool", "oathtool"),
    ("/usr/lib/python3/dist-packages/paramiko/__init__.py", "python3-paramiko"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
];

/// Installs the packages given as arguments. The policy file is Debian's own way to say that no service is to be
/// started; one that is already there is the administrator's and stays, and ours goes whatever happens.
const INSTALL: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
apt-get update --quiet=2
apt-get install --yes --quiet=2 --no-install-recommends --no-upgrade -o Dpkg::Use-Pty=0 "$@"
"#;
