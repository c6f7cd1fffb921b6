use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, thread, time::Instant};

use super::*;

mod session;

use crate::{
    modules::login::{self, chain, link, login_from},
    proto::peer::Credentials,
    sys::accounts::Account,
};

#[test]
fn a_test_can_be_a_worker() {
    // Whoever runs the tests is no gateway; `worker.rs` is, and calls the program so.
    let is_worker = env::args().next().as_deref() == Some("countersign-pam");
    assert_eq!(super::login::serve().is_ok(), is_worker);
}

/// A folder with service files for real PAM.
struct Rulebook {
    folder: tempfile::TempDir,
}

impl Rulebook {
    /// One service, `app`, of these lines. `FOLDER` in them is where they are, `SCRIPT` a module that runs
    /// `script` with the password on its standard input, and passes if it ends with 0.
    fn new(lines: &str, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        fs::write(&path, script).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let module = format!("pam_exec.so quiet expose_authtok /bin/sh {}", path.display());
        let lines = lines.replace("SCRIPT", &module).replace("FOLDER", folder.path().to_str().unwrap());
        fs::write(folder.path().join("app"), lines).unwrap();
        fs::write(folder.path().join("other"), "auth required pam_deny.so\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn configured(&self, options: &[(&str, &str)]) -> Result<Arc<crate::Chain>, ConfigError> {
        let folder = self.folder.path().to_str().unwrap();
        let all = [&[("service", "app"), ("confdir", folder)][..], options].concat();
        link("pam", &all).map(chain)
    }

    fn login(&self, options: &[(&str, &str)], name: &str, password: &str) -> login::Login {
        login::login(&self.configured(options).unwrap(), name, password)
    }

    fn refusal(&self, options: &[(&str, &str)], name: &str, password: &str) -> Refusal {
        self.login(options, name, password).end.unwrap_err()
    }
}

/// Knows a password for each of two names, of which one may have an account here.
const KNOWS: &str = r#"
test "$PAM_TYPE" = auth || exit 0
read -r password
case "$PAM_USER:$password" in nobody-at-all:hunter2|root:hunter2|nobody-at-all:pässwörd€) exit 0;; *) exit 1;; esac
"#;

const PASSES: &str = "auth required SCRIPT\naccount required pam_permit.so\n";

fn is_gone(pid: &str) -> bool {
    let start = Instant::now();
    loop {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        if state.is_empty() || state.starts_with('Z') {
            return true;
        }
        if start.elapsed() > Duration::from_secs(10) {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn eventually(mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(10), "it did not happen in time");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn s_071_who_knows_the_password_gets_in_and_nobody_else() {
    let rules = Rulebook::new(PASSES, KNOWS);
    let grant = rules.login(&[], "nobody-at-all", "hunter2").end.unwrap();
    let identity = grant.identity().unwrap();
    // S-70: a name without an account has no number, and gets none of ours.
    assert_eq!((identity.name.as_str(), identity.uid, identity.gid), ("nobody-at-all", None, None));
    assert!(rules.login(&[], "nobody-at-all", "pässwörd€").end.is_ok());
    let wrong = rules.login(&[], "nobody-at-all", "hunter3");
    let unknown = rules.login(&[], "mallory", "hunter2");
    assert_eq!(wrong.seen, ["xor password", "authentication failed"]);
    assert_eq!(wrong.seen, unknown.seen);
    assert!(rules.login(&[], "nobody-at-all", "hunter2\0x").end.is_err());
    assert_eq!(rules.refusal(&[], "", "hunter2").reason, Reason::UnknownUser);
}

#[test]
fn s_032_no_stack_is_asked_about_an_empty_password() {
    let rules = Rulebook::new("auth required SCRIPT\naccount required pam_permit.so\n", "echo >$0.ran");
    assert!(rules.login(&[], "nobody-at-all", "").end.is_err());
    assert!(!rules.path("script.ran").exists());
    assert!(rules.login(&[], "nobody-at-all", "x").end.is_ok());
    assert!(rules.path("script.ran").exists());
}

#[test]
fn s_070_system_accounts_get_in_only_where_that_is_said_and_with_the_databases_numbers() {
    let rules = Rulebook::new(PASSES, KNOWS);
    let refusal = rules.refusal(&[], "root", "hunter2");
    assert_eq!(refusal.reason, Reason::AccountDisabled);
    let grant = rules.login(&[("min-uid", "0")], "root", "hunter2").end.unwrap();
    let root = Account::named("root").unwrap().unwrap();
    let identity = grant.identity().unwrap();
    assert_eq!((identity.uid, identity.gid), (Some(root.uid), Some(root.gid)));
    assert!(rules.login(&[("min-uid", "1")], "root", "hunter2").end.is_err());
}

#[test]
fn s_071_the_account_phase_counts_unless_it_is_switched_off() {
    let rules = Rulebook::new("auth required SCRIPT\naccount required pam_deny.so\n", KNOWS);
    let refusal = rules.refusal(&[], "nobody-at-all", "hunter2");
    assert_eq!(refusal.reason, Reason::AccountDisabled);
    assert!(refusal.cause.contains("of the account"), "{}", refusal.cause);
    assert!(rules.login(&[("check-account", "no")], "nobody-at-all", "hunter2").end.is_ok());
    // PAM refuses where a service has no rules for a phase at all.
    let rules = Rulebook::new("auth required SCRIPT\n", KNOWS);
    assert!(rules.login(&[], "nobody-at-all", "hunter2").end.is_err());
}

#[test]
fn s_071_pam_is_told_where_the_client_is_and_who_runs_it() {
    let script = r#"echo "$PAM_SERVICE|$PAM_TTY|$PAM_RHOST|$PAM_RUSER" >>"$0.told""#;
    let rules = Rulebook::new(PASSES, script);
    let chain = rules.configured(&[]).unwrap();
    let mut remote = Peer::tcp("[2001:db8::7]:5000".parse().unwrap(), "[2001:db8::1]:22".parse().unwrap());
    remote.confidential = true;
    for peer in [remote, Peer::unix(Some(Credentials::new(0, 0))), Peer::unix(None)] {
        assert!(login_from(peer, &chain, "nobody-at-all", "x").end.is_ok());
    }
    let told = "app|countersign|2001:db8::7|\napp|countersign||root\napp|countersign||\n";
    assert_eq!(rules.read("script.told"), told);
}

#[test]
fn s_033_nothing_is_asked_on_a_wire_that_others_can_read() {
    let rules = Rulebook::new(PASSES, KNOWS);
    let chain = rules.configured(&[]).unwrap();
    assert!(chain.links()[0].needs_cleartext());
    let open = Peer::tcp("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:10000".parse().unwrap());
    let login = login_from(open, &chain, "nobody-at-all", "hunter2");
    assert_eq!(login.end.unwrap_err().reason, Reason::NotConfidential);
}

#[test]
fn s_071_a_module_that_hangs_is_killed_at_the_deadline_with_all_it_started() {
    let rules =
        Rulebook::new(PASSES, "sleep 600 & echo $! >>$0.pids; echo $$ >>$0.pids; echo $PPID >>$0.pids; wait");
    let start = Instant::now();
    let refusal = rules.refusal(&[("timeout", "700ms")], "nobody-at-all", "x");
    assert!(refusal.cause.contains("in time") && refusal.reason == Reason::ModuleFailed);
    assert!(start.elapsed() >= Duration::from_millis(700) && start.elapsed() < Duration::from_secs(10));
    let pids = rules.read("script.pids");
    assert_eq!(pids.lines().count(), 3);
    assert!(pids.lines().all(is_gone), "{pids}");
}

#[test]
fn s_020_a_module_that_crashes_harms_its_own_login_only() {
    let rules = Rulebook::new(PASSES, r#"test "$PAM_USER" = alice || kill -ABRT $PPID; exit 0"#);
    let chain = rules.configured(&[]).unwrap();
    let refusal = login::login(&chain, "mallory", "x").end.unwrap_err();
    assert_eq!((refusal.reason, &*refusal.cause), (Reason::ModuleFailed, "the worker died of signal 6"));
    assert!(login::login(&chain, "alice", "x").end.is_ok());
}

#[test]
fn s_074_s_090_s_091_a_worker_holds_nothing_of_the_gateway_and_shows_nothing() {
    let script = r#"
        tr '\0' '\n' </proc/$PPID/cmdline >$0.seen; tr '\0' '\n' </proc/$PPID/environ >>$0.seen
        readlink /proc/$PPID/cwd >>$0.seen; for d in /proc/$PPID/fd/*; do readlink $d; done >$0.open
        grep 'Max core' /proc/$PPID/limits >$0.core; grep VmLck /proc/$PPID/status >$0.locked"#;
    let rules = Rulebook::new(PASSES, script);
    let (kept, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    // As a library would leave it open.
    rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).unwrap();
    assert!(rules.login(&[], "nobody-at-all", "canary-password").end.is_ok());
    let seen = rules.read("script.seen");
    assert!(seen.contains("countersign-pam"), "{seen}");
    assert!(!seen.contains("canary") && !seen.contains("nobody-at-all") && !seen.contains("CARGO"), "{seen}");
    if crate::sys::accounts::own_uid() == 0 {
        // Nobody else may look.
        assert!(
            seen.ends_with("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/\n")
                || seen.contains("LANG=C.UTF-8"),
            "{seen}"
        );
        let open = rules.read("script.open");
        // The gateway's socket, twice: to be read, and to be watched.
        assert_eq!(open.matches("socket:").count(), 2, "{open}");
    }
    let core = rules.read("script.core");
    assert_eq!(core.split_ascii_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Where any process of ours may keep its memory off the disk, it does.
    let locked = rules.read("script.locked");
    let may = crate::sys::memory::keep_off_the_disk().is_ok();
    assert_eq!(locked.split_ascii_whitespace().nth(1) != Some("0"), may, "{locked}");
}

#[test]
fn w22_more_than_the_allowed_number_are_refused_as_busy_until_a_place_is_free() {
    let rules = Rulebook::new(PASSES, "sleep 600");
    let chain = rules.configured(&[("max-concurrent", "2"), ("timeout", "1s")]).unwrap();
    let reasons: Vec<Reason> = thread::scope(|scope| {
        let try_it = || login::login(&chain, "nobody-at-all", "x").end.unwrap_err().reason;
        let logins: Vec<_> = (0..5).map(|_| scope.spawn(try_it)).collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    assert_eq!(reasons.iter().filter(|reason| **reason == Reason::Busy).count(), 3, "{reasons:?}");
    fs::write(rules.path("script"), "exit 0").unwrap();
    let start = Instant::now();
    while login::login(&chain, "nobody-at-all", "x").end.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_worker_whose_login_is_given_up_is_gone_and_so_is_its_place() {
    let rules = Rulebook::new(PASSES, "echo $PPID >$0.pid; sleep 600");
    let places = Places::new("max-concurrent", 1);
    let within = |timeout| Rules {
        service: "app".into(),
        directory: Some(rules.folder.path().to_owned()),
        check_account: true,
        session: false,
        min_uid: 0,
        timeout,
    };
    let client = Client { user: "nobody-at-all".into(), address: None, peer_uid: None };
    let mut worker =
        Worker::start(&within(Duration::from_millis(500)), &client, places.take().unwrap()).unwrap();
    assert!(places.take().is_err());
    assert!(worker.ask(&Secret::new("x")).is_err());
    assert!(is_gone(&rules.read("script.pid")));
    eventually(|| places.take().is_ok());
    // Waits for its first answer, which never comes.
    let waiting = Worker::start(&within(Duration::from_secs(60)), &client, places.take().unwrap()).unwrap();
    drop(waiting);
    eventually(|| places.take().is_ok());
}

#[test]
fn s_065_s_071_what_cannot_work_is_a_start_error_that_repeats_no_value() {
    let rules = Rulebook::new(PASSES, KNOWS);
    fs::write(rules.path("silent"), "account required pam_permit.so\n").unwrap();
    for (options, says) in [
        (&[("service", "secret-value")][..], "no service of that name"),
        (&[("service", "silent")], "no auth line"),
        (&[("service", "../secret-value")], "no name of a file"),
        (&[("service", "")], "no name of a file"),
        (&[("timeout", "0")], "a check must end"),
        (&[("timeout", "11m")], "a check must end"),
        (&[("max-concurrent", "0")], "no number"),
        (&[("min-uid", "-1")], "no number"),
        (&[("check-account", "secret-value")], "neither yes nor no"),
    ] {
        let folder = rules.folder.path().to_str().unwrap();
        let mut all = vec![("confdir", folder)];
        all.extend(options);
        if !options.iter().any(|(name, _)| *name == "service") {
            all.push(("service", "app"));
        }
        let error = link("pam", &all).err().unwrap();
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error}{}", error.fix()).contains("secret-value"), "{error}");
    }
    assert!(link("pam", &[("confdir", "relative"), ("service", "app")]).is_err());
}

#[test]
fn each_answer_of_pam_has_its_reason_and_its_own_cause() {
    let mut causes = std::collections::BTreeSet::new();
    for (phase, code, reason) in [
        (Phase::Authentication, Code::AUTH_ERR, Reason::WrongSecret),
        (Phase::Authentication, Code::USER_UNKNOWN, Reason::UnknownUser),
        (Phase::Authentication, Code::MAXTRIES, Reason::AccountDisabled),
        (Phase::Authentication, Code::SYSTEM_ERR, Reason::ModuleFailed),
        (Phase::Start, Code::SYSTEM_ERR, Reason::ModuleFailed),
        (Phase::Account, Code::ACCT_EXPIRED, Reason::AccountDisabled),
        (Phase::Account, Code::NEW_AUTHTOK_REQD, Reason::AccountDisabled),
        (Phase::Account, Code::AUTH_ERR, Reason::AccountDisabled),
        (Phase::Session, Code::SYSTEM_ERR, Reason::AccountDisabled),
    ] {
        let refusal = denied(phase, code);
        assert_eq!((refusal.reason, refusal.public()), (reason, "authentication failed"));
        assert!(causes.insert(refusal.cause));
    }
    assert!(causes.contains("PAM says PAM_ACCT_EXPIRED of the account"));
}

#[test]
fn a_workers_words_are_judged_once_more() {
    let passed = |name: &str, ids| judge(Word::Passed { name: name.into(), ids });
    assert!(passed("alice", Some((1000, 1000))).is_ok());
    assert!(passed("al/ice", None).is_err());
    assert!(passed("alice", Some((u32::MAX, 0))).is_err());
    assert!(judge(Word::Question("again?".into())).is_err());
    assert!(judge(Word::Opened).is_err());
    assert_eq!(words("Password: "), "Password");
    assert_eq!(words("One-time\ncode (\u{1b}[1m\"oath\") for `x':\t"), "One-time code ([1moath) for `x'");
}
