//! The Debian package: built, installed, started, used, upgraded, removed and purged, in a copy of this system that is
//! gone afterwards; and its units.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Nothing of it touches this machine: the copy is an overlay in a mount namespace of its own, and what is started
/// there ends with its process namespace.
#[test]
fn the_package_is_installed_started_used_upgraded_and_purged() {
    let folder = scratch("package");
    let program = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("countersign");
    assert!(program.is_file(), "{} is not built: cargo build -p countersign-cli", program.display());
    let built = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["deb", "--binary"])
        .arg(&program)
        .arg("--to")
        .arg(&folder)
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
    let done = inside.arg(&package).arg(INSIDE).output().unwrap();
    if text(&done).contains("no overlay here") {
        eprintln!("skipped: this system lets nobody mount an overlay");
        return;
    }
    assert!(done.status.success() && text(&done).contains("all of it is gone"), "{}", text(&done));
    std::fs::remove_dir_all(folder).unwrap();
}

/// Exposure 1.5 and less (`docs/privileges.md` says what is left and why).
#[test]
fn s_095_the_units_expose_little() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    }
    for unit in ["countersign.service", "countersign@.service"] {
        let unit = format!("{}/packaging/systemd/{unit}", root());
        let judged = output("systemd-analyze", &["security", "--offline=true", "--threshold=15", &unit]);
        assert!(judged.status.success(), "{}", text(&judged));
    }
}

fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A folder of this test in this run.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

fn root() -> &'static str {
    env!("CARGO_MANIFEST_DIR").trim_end_matches("/xtask")
}

/// Makes the copy and runs `$2` in it, with the package as `/package.deb`.
const COPY: &str = r#"
copy=$(mktemp -d)
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
for account in $(getent passwd countersign | cut -d: -f1); do userdel "$account"; done

dpkg --no-triggers -i /package.deb
getent passwd countersign
test "$(stat -c '%U %a' /var/lib/countersign)" = 'countersign 700'
test "$(stat -c '%U %G %a' /etc/countersign)" = 'root countersign 750'
gzip -t /usr/share/man/man1/countersign.1.gz
sh -c 'command -v bash >/dev/null && bash -n /usr/share/bash-completion/completions/countersign'
if command -v systemd-analyze; then
    for unit in countersign.service countersign@.service countersign.socket; do
        systemd-analyze verify --man=no /usr/lib/systemd/system/$unit
    done
fi

install -d -m 1777 /tmp/client
serve() {
    : >/tmp/log
    systemd-tmpfiles --create countersign.conf || install -d -o countersign -g countersign /run/countersign
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
serve setpriv --reuid countersign --regid countersign --init-groups --inh-caps=-all --bounding-set=-all
whoami() {
    setpriv --reuid games --regid games --clear-groups env HOME=/tmp/client \
        countersign info --json unix:///run/countersign/app.sock | grep '"games"'
}
whoami
kill $gateway; wait $gateway

# Started by root it becomes the account by itself.
serve env
whoami
grep 'the gateway is user countersign without capabilities' /tmp/log
test "$(stat -c %U /proc/$gateway/task/$gateway/comm)" = root # it shows nothing of itself
grep "^Uid:.$(id -u countersign)" /proc/$gateway/status
kill $gateway; wait $gateway

# An upgrade keeps what the administrator has written, and may be run again.
echo '# mine' >>/etc/countersign/countersign.toml
dpkg --no-triggers --force-confold -i /package.deb
/var/lib/dpkg/info/countersign.postinst configure 0.0.1
grep '# mine' /etc/countersign/countersign.toml
countersign check --config /etc/countersign/countersign.toml

dpkg --no-triggers --remove countersign
test ! -e /usr/bin/countersign
test -e /etc/countersign/countersign.toml
test -d /var/lib/countersign
dpkg --no-triggers --purge countersign
/bin/sh -c '! getent passwd countersign && ! getent group countersign'
for left in /etc/countersign /var/lib/countersign /run/countersign /usr/share/doc/countersign; do test ! -e $left; done
test -z "$(find /usr /etc /var -xdev -name '*countersign*' -newer /package.deb -not -path '*/dpkg/*')"
echo 'all of it is gone'
"#;
