//! The login over vsock where a machine can call itself: in a virtual one.
//!
//! Many kernels, those of containers above all, have no `vsock_loopback`, and `interop/tests/vsock.rs` then says that it
//! was not played. Here that same test runs under Debian's own kernel in QEMU, which emulates the whole processor, so that
//! nothing of the machine below is needed. Nothing but QEMU is installed: kernel and shell are unpacked in `target/vsock`.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    deps,
    step::{Failed, cannot_start, cargo, run, run_quietly, succeeds, timed},
};

/// Builds what is played, packs it with a kernel, and plays it.
pub(crate) fn play(_: &[&str]) -> Result<(), Failed> {
    if env::consts::ARCH != "x86_64" {
        return Err(Failed(format!(
            "vsock: the kernel is Debian's for amd64, and this is {}",
            env::consts::ARCH
        )));
    }
    deps::install_these(&[("qemu-system-x86_64", "qemu-system-x86")])?;
    run("the command", &mut cargo(["build", "--package", "countersign-cli", "--bins"]))?;
    let test = built_test()?;
    let folder = env::current_dir()?.join("target/vsock");
    let (system, root) = (folder.join("system"), folder.join("root"));
    if !system.is_dir() {
        let mut command = Command::new("sh");
        run_quietly("Debian's kernel and busybox", command.args(["-euc", FETCH, "sh"]).arg(&folder))?;
    }
    let gateway = test.ancestors().nth(2).unwrap_or(&test).join("countersign");
    pack(&root, &system, &[(&test, "/test/deps/vsock"), (&gateway, "/test/countersign")])?;
    let mut command = Command::new("sh");
    command.current_dir(&root).args(["-euc", ARCHIVE, "sh"]).arg(&system);
    run_quietly("the file system of the virtual machine", &mut command)?;
    timed("the login over vsock, in a virtual machine", || boot(&folder))
}

/// Builds the test, and says where it is.
fn built_test() -> Result<PathBuf, Failed> {
    timed("the test", || {
        let what = ["test", "--package", "countersign-interop", "--test", "vsock", "--no-run"];
        let mut command = cargo(what);
        let output =
            command.stderr(Stdio::piped()).output().map_err(|error| cannot_start(&command, &error))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // `Executable tests/vsock.rs (target/debug/deps/vsock-0123456789abcdef)`
        let found = said.lines().rev().find_map(|line| {
            let path = line.trim().strip_prefix("Executable ")?.rsplit_once('(')?.1;
            path.strip_suffix(')')
        });
        match found {
            Some(path) if output.status.success() => Ok(fs::canonicalize(path)?),
            _ => Err(Failed(format!("the test cannot be built:\n{said}"))),
        }
    })
}

/// Makes the folder that becomes the virtual machine's only file system: these programs at these places, what they are
/// linked with, and what the test starts.
fn pack(root: &Path, system: &Path, programs: &[(&Path, &str)]) -> Result<(), Failed> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    for folder in ["proc", "sys", "dev", "tmp", "etc", "bin", "usr/bin", "modules"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let within = |path: &str| root.join(path.trim_start_matches('/'));
    let setpriv = Path::new("/usr/bin/setpriv");
    for (program, place) in programs.iter().copied().chain([(setpriv, "/usr/bin/setpriv")]) {
        copy(program, &within(place))?;
        // What debuggers want is most of it, and all of it has to fit into memory.
        if !succeeds("strip", &[within(place)]) {
            return Err(Failed("strip: it is missing, or failed; Debian has it in binutils".to_owned()));
        }
        for library in libraries(program)? {
            copy(Path::new(&library), &within(&library))?;
        }
    }
    copy(&system.join("bin/busybox"), &root.join("bin/busybox"))?;
    for applet in ["sh", "true"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Copies a file and makes the folders above it.
fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).map_err(|error| Failed(format!("{}: {error}", from.display())))?;
    Ok(())
}

/// The files that a program is linked with, its loader included.
fn libraries(program: &Path) -> Result<Vec<String>, Failed> {
    let output = Command::new("ldd").arg(program).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    Ok(said.lines().filter_map(path).collect())
}

/// Runs the machine until it turns itself off, shows what it says, and judges the test by its own words.
fn boot(folder: &Path) -> Result<(), Failed> {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024"]);
    command.args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nodefaults"]);
    command.arg("-kernel").arg(folder.join("system/vmlinuz"));
    command.arg("-initrd").arg(folder.join("system/initrd"));
    // A panic ends the machine too.
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    let output = command.stdin(Stdio::null()).output().map_err(|error| cannot_start(&command, &error))?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    eprintln!("{}{}", said.trim_end(), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && said.contains(PASSED) && !said.contains("NOT PLAYED") {
        return Ok(());
    }
    Err(Failed(format!("vsock: the login was not played, or failed ({})", output.status)))
}

/// How long the machine may run, in seconds.
const PATIENCE: &str = "600";

/// What the runner says of the one test in `interop/tests/vsock.rs`.
const PASSED: &str = "test result: ok. 1 passed; 0 failed";

/// Gets the packages and unpacks of them what is used, into the folder that it is given.
const FETCH: &str = r#"
mkdir -p "$1/packages"
cd "$1/packages"
image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
apt-get download --quiet=2 "$image" busybox-static
for package in *.deb; do dpkg -x "$package" unpacked; done
rm -rf ../coming
mkdir -p ../coming/bin ../coming/modules
cp unpacked/boot/vmlinuz-* ../coming/vmlinuz
cp unpacked/bin/busybox ../coming/bin/
for module in vsock vmw_vsock_virtio_transport_common vsock_loopback; do
    cp unpacked/lib/modules/*/kernel/net/vmw_vsock/$module.ko ../coming/modules/
done
cd ..
rm -rf packages
mv coming system
"#;

/// Makes the archive of the folder that it is run in.
const ARCHIVE: &str = r#"
cp "$1"/modules/* modules/
find . | "$1/bin/busybox" cpio -o -H newc | gzip -1 >"$1/initrd"
"#;

/// The machine's first program, and the last.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin:/usr/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in vsock vmw_vsock_virtio_transport_common vsock_loopback; do
    busybox insmod /modules/$module.ko
done
busybox uname -a
/test/deps/vsock --nocapture
busybox poweroff -f
"#;
