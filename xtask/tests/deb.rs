//! The Debian package: built, installed, started, used, upgraded, removed and purged, in a copy of this system that is
//! gone afterwards; and its units.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Nothing of it touches this machine: the copy is an overlay in a mount namespace of its own, and what is started
/// there ends with its process namespace.
#[test]
fn the_package_is_installed_started_used_upgraded_and_purged() {
    let folder = tempfile::Builder::new().prefix("package").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("countersign");
    assert!(program.is_file(), "{} is not built: cargo build -p countersign-cli", program.display());
    let built = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["deb", "--binary"])
        .arg(&program)
        .arg("--to")
        .arg(folder.path())
        .args(["--compress", "none"])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", text(&built));
    let package = PathBuf::from(String::from_utf8(built.stdout).unwrap().trim());
    let listed = output("dpkg-deb", &["--contents", package.to_str().unwrap()]);
    for file in
        ["/usr/bin/countersign", "countersign@.service", "/countersign-trust-list.1.gz", "_countersign"]
    {
        assert!(text(&listed).contains(file), "{file}: {}", text(&listed));
    }
    if !text(&output("id", &["-u"])).starts_with("0\n") {
        eprintln!("skipped: only root installs packages");
        return;
    }
    if !Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status().unwrap().success() {
        eprintln!("skipped: this system lets nobody have a namespace of mounts");
        return;
    }
    let mut inside = Command::new("unshare");
    inside.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
        "sh",
        "-euc",
        COPY,
        "sh",
    ]);
    // Mounted on in there only.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let done = inside.arg(&package).arg(INSIDE).arg(&copy).output().unwrap();
    if text(&done).contains("no overlay here") {
        eprintln!("skipped: this system lets nobody mount an overlay");
        return;
    }
    assert!(done.status.success() && text(&done).contains("all of it is gone"), "{}", text(&done));
}

/// Exposure 1.5 and less (`docs/privileges.md` says what is left and why).
#[test]
fn s_095_the_units_expose_little() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    }
    for unit in UNITS.map(packaged) {
        let judged = output("systemd-analyze", &["security", "--offline=true", "--threshold=15", &unit]);
        assert!(judged.status.success(), "{}", text(&judged));
    }
}

/// Locking memory, and what the gateway's own sandbox is made by (`sys/sandbox.rs`). Some versions of systemd have these
/// calls in none of the groups that are allowed, and the sandbox would fail.
#[test]
fn s_095_the_units_let_the_gateway_have_a_sandbox_of_its_own() {
    for unit in UNITS.map(packaged) {
        let text = fs::read_to_string(&unit).unwrap();
        let mut allowed = BTreeSet::new();
        for list in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
            match list.strip_prefix('~') {
                Some(taken) => taken.split_whitespace().for_each(|word| _ = allowed.remove(word)),
                None => allowed.extend(list.split_whitespace()),
            }
        }
        for call in SANDBOX {
            assert!(allowed.contains(call), "{call} in {unit}");
        }
    }
}

/// Directories that systemd makes are those of the unit's user: root's, with the drop-in, and closed to the account that
/// the gateway becomes.
#[test]
fn a_gateway_that_root_starts_makes_its_directories_itself() {
    let text = fs::read_to_string(packaged("helper.conf")).unwrap();
    for line in ["User=root", "StateDirectory=", "RuntimeDirectory="] {
        assert!(text.lines().any(|written| written == line), "{line}");
    }
}

fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A file as it is packaged.
fn packaged(name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR").trim_end_matches("/xtask");
    format!("{root}/packaging/systemd/{name}")
}

/// What starts a gateway.
const UNITS: [&str; 2] = ["countersign.service", "countersign@.service"];

const SANDBOX: [&str; 8] = [
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "mlock2",
    "mlockall",
    "prlimit64",
    "seccomp",
    "setrlimit",
];

/// Makes the copy in the folder `$3` and runs `$2` in it, with the package `$1` as `/package.deb`.
const COPY: &str = r#"
copy=$3
mount -t tmpfs tmpfs "$copy" || { echo 'no overlay here'; exit 0; }
mkdir "$copy/upper" "$copy/work" "$copy/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$copy/upper,workdir=$copy/work" "$copy/root" ||
    { echo 'no overlay here'; exit 0; }
cp "$1" "$copy/root/package.deb"
mount -t proc proc "$copy/root/proc"
mount -t tmpfs tmpfs "$copy/root/run"
mount -t tmpfs tmpfs "$copy/root/tmp"
mount --rbind /dev "$copy/root/dev"
chroot "$copy/root" sh -euxc "$2"
"#;

/// The life of the package. The gateway is started as the unit does, for no service manager runs there.
const INSIDE: &str = r#"
cd /
export DEBIAN_FRONTEND=noninteractive
unset XDG_CONFIG_HOME XDG_STATE_HOME XDG_RUNTIME_DIR
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
rm -f /usr/sbin/policy-rc.d # as images of containers have it
for account in $(getent passwd countersign | cut -d: -f1); do userdel "$account"; done

dpkg --no-triggers -i /package.deb
getent passwd countersign
test "$(stat -c '%U %a' /var/lib/countersign)" = 'countersign 700'
test "$(stat -c '%U %G %a' /etc/countersign)" = 'root countersign 750'
gzip -t /usr/share/man/man1/countersign.1.gz
if command -v bash; then bash -n /usr/share/bash-completion/completions/countersign; fi
if command -v systemd-analyze; then
    for unit in countersign.service countersign@.service countersign.socket; do
        systemd-analyze verify --man=no /usr/lib/systemd/system/$unit
    done
fi

install -d -m 1777 /tmp/client
serve() {
    : >/tmp/log
    # Environment= and ExecStart= of the unit.
    unit=/usr/lib/systemd/system/countersign.service
    "$@" env $(sed -n 's/^Environment=//p' $unit) $(sed -n 's/^ExecStart=//p' $unit) 2>/tmp/log &
    gateway=$!
    n=0
    until grep -q 'listening on unix:/run/countersign/app.sock' /tmp/log; do
        n=$((n + 1)); test $n -lt 300 && kill -0 $gateway || { cat /tmp/log; exit 1; }
        sleep 0.2
    done
}
systemd-tmpfiles --create countersign.conf || install -d -o countersign -g countersign /run/countersign
serve setpriv --reuid countersign --regid countersign --init-groups --inh-caps=-all --bounding-set=-all
whoami() {
    setpriv --reuid games --regid games --clear-groups env HOME=/tmp/client \
        countersign info --json unix:///run/countersign/app.sock | grep '"games"'
}
whoami
kill $gateway; wait $gateway

# Started by root, as helper.conf has it, it becomes the account by itself and makes its own directories, whatever UMask=
# says.
rm -r /run/countersign /var/lib/countersign
serve sh -c 'umask 077; exec "$@"' sh
whoami
test "$(stat -c '%U %G %a' /run/countersign)" = 'countersign countersign 755'
test "$(stat -c '%U %G %a' /var/lib/countersign)" = 'countersign countersign 700'
grep 'the gateway is user countersign without capabilities' /tmp/log
test "$(stat -c %U /proc/$gateway/task/$gateway/comm)" = root # it shows nothing of itself
grep "^Uid:.$(id -u countersign)" /proc/$gateway/status
kill $gateway; wait $gateway

# An upgrade keeps what the administrator has written, and may be run again.
echo '# mine' >>/etc/countersign/countersign.toml
dpkg --no-triggers --force-confold -i /package.deb
DPKG_MAINTSCRIPT_PACKAGE=countersign /var/lib/dpkg/info/countersign.postinst configure 0.0.1
grep '# mine' /etc/countersign/countersign.toml
countersign check --config /etc/countersign/countersign.toml

# From here on there is a service manager, which is asked for things and does none.
enabled=/etc/systemd/system/multi-user.target.wants/countersign.service
test -L $enabled
mkdir -p /run/systemd/system
cat >/usr/local/bin/systemctl <<'END'
#!/bin/sh
echo "$*" >>/tmp/asked
case "$*" in *is-enabled*) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@" ;; *is-active*) exit 3 ;; esac
END
chmod 755 /usr/local/bin/systemctl
again() {
    : >/tmp/asked
    dpkg --no-triggers --remove countersign
    grep 'stop countersign.socket countersign.service countersign@\*.service' /tmp/asked
    : >/tmp/asked
    dpkg --no-triggers --force-confold -i /package.deb
}

# Removed and installed again it is started as before; one that was disabled stays so.
again
test -L $enabled
grep ' restart countersign.service' /tmp/asked
grep 'try-restart countersign@\*.service' /tmp/asked
SYSTEMD_OFFLINE=1 /usr/bin/systemctl disable countersign.service
again
test ! -L $enabled
/bin/sh -c "! grep ' restart countersign.service' /tmp/asked && ! grep ' start ' /tmp/asked"

SYSTEMD_OFFLINE=1 /usr/bin/systemctl enable countersign.service countersign@other.service
dpkg --no-triggers --remove countersign
test ! -e /usr/bin/countersign
test -e /etc/countersign/countersign.toml
test -d /var/lib/countersign
dpkg --no-triggers --purge countersign
rm /usr/local/bin/systemctl
# Its number is nobody else's, and nobody logs in with it.
getent group countersign
test "$(getent shadow countersign | cut -d: -f2 | cut -c1)" = '!'
test "$(getent shadow countersign | cut -d: -f8)" = 1
for left in /etc/countersign /var/lib/countersign /run/countersign /usr/share/doc/countersign; do test ! -e $left; done
test -z "$(find /usr /etc /var -xdev -name '*countersign*' -newer /package.deb -not -path '*/dpkg/*')"

# The next installation begins anew, with the same account.
dpkg --no-triggers -i /package.deb
test -L $enabled
test -z "$(getent shadow countersign | cut -d: -f8)"
echo 'all of it is gone'
"#;
