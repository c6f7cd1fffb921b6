//! Each router for real grants: whose sessions there are, which is chosen, and what is never opened.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    time::Instant as Clock,
};

use nix::unistd::chown;
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::super::{Backend, SessionFacts};
use super::*;
use crate::{
    Chain, Claim, Identity, Peer, Refusal, Username, Verifier,
    proto::{
        chain::{CheckPeer, Link},
        challenge::{Hello, Offer},
        server::{Action, ClientMessage, Conversation, Settings},
    },
    sys::accounts::own_uid,
};

mod tables;

/// Names this user, if anybody.
struct Names(Option<(&'static str, Option<u32>)>);

impl CheckPeer for Names {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        self.0.map(|(name, uid)| Ok(Identity::new(Username::parse(name)?).with_ids(uid, None))).transpose()
    }
}

/// A grant for a client that asks for `display`. Only a chain that passed makes one, so one is run.
fn grant(user: Option<(&'static str, Option<u32>)>, display: Option<&str>) -> Grant {
    let chain = Chain::new(vec![Link::new("test", Verifier::Peer(Box::new(Names(user))))]).unwrap();
    let peer = Peer::tcp("192.0.2.7:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap());
    let mut conversation = Conversation::new(
        Arc::new(chain),
        Arc::new(peer),
        Settings::default(),
        |_: &mut [u8]| {},
        Clock::now(),
    );
    let claim = Claim::named("claimed").unwrap().asking_for(display.map(str::to_owned), None);
    let hello = Hello::new(claim, Offer::new(Vec::new(), Vec::new()));
    conversation.handle(Clock::now(), ClientMessage::Hello(Box::new(hello)));
    loop {
        match conversation.poll() {
            Some(Action::Check(check)) => conversation.handle_checked(Clock::now(), check.run()),
            Some(Action::Accept(grant)) => return grant,
            other => panic!("{other:?}"),
        }
    }
}

/// Whoever runs the tests, asking for `display`.
fn me(display: Option<&str>) -> Grant {
    grant(Some(("me", Some(own_uid()))), display)
}

fn backend(text: &str) -> Backend {
    text.parse().unwrap_or_else(|error: ConfigError| panic!("{text}: {error}"))
}

async fn open(backend: &str, grant: &Grant) -> Result<(), String> {
    let opened = self::backend(backend).open(grant, &SessionFacts::new("1", "tcp")).await;
    opened.map(drop).map_err(|error| format!("{error} [{}]", error.cause()))
}

/// A folder of our own with a socket of each name in it.
fn folder(names: &[&str]) -> (TempDir, Vec<UnixListener>) {
    let folder = tempfile::tempdir().unwrap();
    let sockets = names.iter().map(|name| UnixListener::bind(folder.path().join(name)).unwrap()).collect();
    (folder, sockets)
}

/// `template` for whoever runs the tests, root included.
fn template(folder: &Path, paths: &[&str]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| format!("path={}/{path}", folder.display())).collect();
    format!("session:template({},min-uid=0)", paths.join(", "))
}

#[tokio::test]
async fn a_template_leads_each_user_to_their_own_socket() {
    let uid = own_uid();
    let (folder, _sockets) = folder(&[&format!("{uid}.sock"), "me.sock"]);
    open(&template(folder.path(), &["{uid}.sock"]), &me(None)).await.unwrap();
    open(&template(folder.path(), &["{user}.sock"]), &me(None)).await.unwrap();
    let other = grant(Some(("other", Some(uid))), None);
    let refused = open(&template(folder.path(), &["{user}.sock"]), &other).await.unwrap_err();
    assert!(refused.starts_with("the service is not available"), "{refused}");
    let explained = backend(&template(folder.path(), &["{uid}.sock"])).explain();
    assert!(explained.starts_with("session:template: the session of whoever logs in"), "{explained}");
}

#[tokio::test]
async fn s_085_the_client_chooses_among_the_users_own_sessions_by_name_alone() {
    let (folder, _sockets) = folder(&["mail-me.sock", "news-me.sock"]);
    let mail = format!("mail={}/mail-{{user}}.sock", folder.path().display());
    let news = format!("news={}/news-{{user}}.sock", folder.path().display());
    let gone = format!(":10={}/gone-{{user}}.sock", folder.path().display());
    let backend = format!("session:template(path={mail},path={news},path={gone},min-uid=0)");
    for wanted in ["mail", "news", ":mail"] {
        open(&backend, &me(Some(wanted))).await.unwrap();
    }
    // By the number of a display too, which is not served.
    let gone = open(&backend, &me(Some("10"))).await.unwrap_err();
    assert!(gone.starts_with("the service is not available"), "{gone}");
    let told = "say which session you want: you have `mail`, `news` [";
    assert!(open(&backend, &me(None)).await.unwrap_err().starts_with(told));
    assert!(open(&backend, &me(Some(""))).await.unwrap_err().starts_with(told));
    let path = format!("{}/mail-me.sock", folder.path().display());
    for wanted in ["other", "mail-me", "mai", "mail ", "MAIL", "../mail", "{user}", &path, "unix:/x", "\0"] {
        let refused = open(&backend, &me(Some(wanted))).await.unwrap_err();
        let told = "there is no such session: you have `mail`, `news` [";
        assert!(refused.starts_with(told), "{wanted}: {refused}");
    }
}

#[tokio::test]
async fn s_068_a_grant_that_names_nobody_has_no_session() {
    let (folder, _sockets) = folder(&["claimed.sock"]);
    let refused = open(&template(folder.path(), &["{user}.sock"]), &grant(None, None)).await.unwrap_err();
    assert!(refused.starts_with("nobody is named by this login"), "{refused}");
}

#[tokio::test]
async fn s_070_no_account_no_root_no_system_account_and_never_our_own_uid() {
    let uid = own_uid();
    let (folder, _sockets) = folder(&["no-such-account.sock", "root.sock", "daemon.sock"]);
    let path = format!("{}/{{user}}.sock", folder.path().display());
    let refused = [
        // The socket is ours and alive; a name without an account does not become us.
        ("no-such-account", None, "min-uid=0", "the user has no account here"),
        ("root", None, "min-uid=1000", "uid 0 is below min-uid=1000"),
        ("daemon", None, "min-uid=1000", "uid 1 is below min-uid=1000"),
        ("no-such-account", Some(65534), "min-uid=0", "the user has no account here"),
        ("no-such-account", Some(u32::MAX), "min-uid=0", "the user has no account here"),
        ("root", None, "min-uid=1", "uid 0 is below min-uid=1"),
    ];
    for (name, stated, rule, why) in refused {
        let text = format!("session:template(path={path},{rule})");
        let refused = open(&text, &grant(Some((name, stated)), None)).await.unwrap_err();
        assert!(refused.contains(why), "{name} {stated:?}: {refused}");
        assert!(!refused.split('[').next().unwrap().contains("uid"), "told to the client: {refused}");
    }
    // By default nobody below 1000; a uid that a link proved counts, whatever the name.
    let text = format!("session:template(path={path})");
    let opened = open(&text, &grant(Some(("root", Some(uid))), None)).await;
    assert_eq!(opened.is_ok(), uid >= 1000, "{opened:?}");
}

#[tokio::test]
async fn s_084_a_socket_that_is_not_the_users_is_not_used() {
    let (folder, _sockets) = folder(&["me.sock"]);
    let text = template(folder.path(), &["{user}.sock"]);
    let socket = folder.path().join("me.sock");
    open(&text, &me(None)).await.unwrap();
    let refused = |why: &'static str| {
        let text = text.clone();
        async move {
            let refused = open(&text, &me(None)).await.unwrap_err();
            assert!(refused.starts_with("the service is not available"), "{refused}");
            assert!(refused.contains(why), "{refused}");
        }
    };
    // A directory in which everybody may exchange what lies there, unless it is sticky.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    refused("everybody may exchange").await;
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    open(&text, &me(None)).await.unwrap();
    // A link, even to a socket of the user.
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&socket, &elsewhere).unwrap();
    symlink(&elsewhere, &socket).unwrap();
    refused("it is no socket").await;
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "").unwrap();
    refused("it is no socket").await;
    std::fs::rename(&elsewhere, &socket).unwrap();
    if own_uid() != 0 {
        return;
    }
    // The file of another user.
    chown(&socket, Some(4711.into()), None).unwrap();
    refused("it belongs to uid 4711").await;
    // The user's file with somebody else behind it, here us: what counts is who listens.
    let other = grant(Some(("me", Some(4711))), None);
    let unlike = open(&text, &other).await.unwrap_err();
    assert!(unlike.contains("uid 0 listens there"), "{unlike}");
    chown(folder.path(), Some(4712.into()), None).unwrap();
    refused("its directory belongs to uid 4712").await;
}

#[tokio::test]
async fn s_084_an_abstract_socket_is_judged_by_who_listens() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("countersign-{}-me", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let path = name.replace("me", "{user}");
    let text = format!("session:template(path=@{path},min-uid=0)");
    open(&text, &me(None)).await.unwrap();
    let other = grant(Some(("me", Some(own_uid() + 1))), None);
    let refused = open(&text, &other).await.unwrap_err();
    assert!(refused.contains("listens there"), "{refused}");
}

/// The socket of a display by Xpra's name.
fn xpra_name(display: &str) -> String {
    format!("{}-{display}", crate::sys::accounts::host_name())
}

#[tokio::test]
async fn s_085_a_directory_gives_the_users_own_living_sockets_by_xpras_names() {
    let (folder, _sockets) =
        folder(&[&xpra_name("10"), "elsewhere-12", &xpra_name("proxy-13"), &xpra_name("15")]);
    let at = |name: &str| folder.path().join(name);
    drop(UnixListener::bind(at(&xpra_name("11"))).unwrap());
    std::fs::write(at(&xpra_name("14")), "").unwrap();
    symlink(at(&xpra_name("10")), at(&xpra_name("16"))).unwrap();
    std::fs::create_dir(at("10")).unwrap();
    drop(UnixListener::bind(at("10/socket")).unwrap());
    std::fs::create_dir(at("17")).unwrap();
    let _nested = UnixListener::bind(at("17/socket")).unwrap();
    let root = own_uid() == 0;
    if root {
        chown(&at(&xpra_name("15")), Some(4711.into()), None).unwrap();
    }
    let backend =
        format!("session:directory(socket-dirs=/nonexistent:{},min-uid=0)", folder.path().display());
    // Display 10 has a socket by each of its two names, of which one is dead.
    for wanted in ["10", ":10", "17"] {
        open(&backend, &me(Some(wanted))).await.unwrap();
    }
    let dead = open(&backend, &me(Some("11"))).await.unwrap_err();
    assert!(dead.starts_with("the service is not available"), "{dead}");
    let list = if root { "`:10`, `:17`" } else { "`:10`, `:15`, `:17`" };
    for wanted in ["12", "proxy-13", "13", "14", "16", "10/socket", "elsewhere-12"] {
        let refused = open(&backend, &me(Some(wanted))).await.unwrap_err();
        assert!(
            refused.starts_with(&format!("there is no such session: you have {list} [")),
            "{wanted}: {refused}"
        );
    }
    if root {
        // Nobody's but uid 4711's, and served by us.
        let refused = open(&backend, &me(Some("15"))).await.unwrap_err();
        assert!(refused.starts_with("there is no such session"), "{refused}");
        let other = open(&backend, &grant(Some(("me", Some(4711))), Some("15"))).await.unwrap_err();
        assert!(other.contains("uid 0 listens there"), "{other}");
    }
    assert!(open(&backend, &me(None)).await.unwrap_err().starts_with("say which session you want"));
    let any = format!("session:directory(names=any,socket-dirs={},min-uid=0)", folder.path().display());
    open(&any, &me(Some("elsewhere-12"))).await.unwrap();
    let stranger = open(&backend, &grant(Some(("me", Some(own_uid() + 1))), None)).await.unwrap_err();
    assert!(stranger.starts_with("you have no session here"), "{stranger}");
}

#[tokio::test]
async fn a_program_says_where_the_sessions_are() {
    let (folder, _sockets) = folder(&["socket"]);
    let socket = folder.path().join("socket");
    let (socket, uid) = (socket.display(), own_uid());
    let count = std::cell::Cell::new(0);
    let router = |script: &str| {
        count.set(count.get() + 1);
        let file = folder.path().join(format!("say-{}", count.get()));
        std::fs::write(&file, script).unwrap();
        format!("session:exec(command=\"/bin/sh {}\",timeout=1,min-uid=0)", file.display())
    };
    let say = |json: String| router(&format!("cat <<'END'\n{json}\nEND\n"));
    let good = [
        say(format!(r#"{{"username":"me","uid":{uid},"gid":0,"backend":"unix:{socket}"}}"#)),
        say(format!(r#"{{"sessions":[{{"name":"mail","backend":"{socket}"}}]}}"#)),
        router(&format!(
            r#"test "$COUNTERSIGN_USER$COUNTERSIGN_UID$HOME" = me{uid} && echo '{{"backend":"{socket}"}}'"#
        )),
    ];
    for backend in good {
        open(&backend, &me(None)).await.unwrap();
    }
    let named =
        say(format!(r#"{{"sessions":[{{"name":"mail","backend":"{socket}"}},{{"backend":"{socket}"}}]}}"#));
    open(&named, &me(Some("mail"))).await.unwrap();
    open(&named, &me(Some("socket"))).await.unwrap();
    let bad = [
        (say(format!(r#"{{"username":"root","backend":"unix:{socket}"}}"#)), "it answers for another user"),
        (say(format!(r#"{{"backnd":"unix:{socket}"}}"#)), "its answer"),
        (say("{".to_owned()), "its answer"),
        (say(r#"{"backend":"tls:h:1"}"#.to_owned()), "it is neither unix: nor tcp:"),
        (say(format!(r#"{{"uid":{},"backend":"{socket}"}}"#, uid + 1)), "state different uids"),
        (say("{}".to_owned()), "say which session you want"),
        (router("exit 3"), "exit status: 3"),
        (router("sleep 600 & sleep 600"), "in time"),
        (router("head -c 70000 /dev/zero"), "more than 64 KiB"),
    ];
    for (backend, why) in bad {
        let refused = open(&backend, &me(None)).await.unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
        assert!(!refused.split('[').next().unwrap().contains(why) || why.starts_with("say"), "{refused}");
    }
}

#[tokio::test]
async fn a_daemon_that_ends_at_once_or_makes_no_socket_is_told_in_one_text() {
    let (folder, _sockets) = folder(&[]);
    let start = |command: &str| {
        format!(
            "session:template(path={0}/{{uid}}.sock,min-uid=0,start-timeout=1,runtime-dir={0},start=\"{command}\")",
            folder.path().display()
        )
    };
    for (command, why) in [
        ("/bin/false", "exit status: 1 before its socket was there"),
        ("/nonexistent/program {socket}", "cannot be started"),
        ("/bin/sleep 600", "has made no socket in time"),
    ] {
        let refused = open(&start(command), &me(None)).await.unwrap_err();
        assert!(refused.starts_with("the service is not available"), "{refused}");
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let other = grant(Some(("nobody-here", Some(own_uid() + 1))), None);
    assert!(open(&start("/bin/false"), &other).await.is_err());
    for text in ["start=relative", "stop-when-idle=5s", "start=\"/bin/x {who}\"", "start=/x,start-timeout=x"]
    {
        let text = format!("session:template(path=/x/{{uid}},{text})");
        assert!(text.parse::<Backend>().is_err(), "{text}");
    }
}

/// Whoever has taken the gateway over says what the table says: only a list of what is wanted holds.
#[tokio::test]
async fn s_082_s_094_a_daemon_is_given_the_variables_that_its_router_names_and_no_others() {
    let (folder, _sockets) = folder(&[]);
    let script = folder.path().join("script");
    std::fs::write(&script, "env >$0.env\n").unwrap();
    let pair = |name: &str| (name.to_owned(), "given".to_owned());
    for (passed, wanted) in [("", &[][..]), ("pass-env=ONE,pass-env=XPRA_X,", &["ONE", "XPRA_X"])] {
        let text = format!(
            "template(path={0}/{{uid}}.sock,min-uid=0,runtime-dir={0},{passed}start=\"/bin/sh {0}/script\")",
            folder.path().display()
        );
        let (sessions, _) = parse(&text).unwrap();
        let variables = ["ONE", "ONE_MORE", "XPRA_X", "GIO_MODULE_DIR", "VK_ICD_FILENAMES"].map(pair);
        let identity = Identity::new(Username::parse("me").unwrap()).with_ids(Some(own_uid()), None);
        let identity = identity.with_session(Vec::new(), variables.to_vec(), Vec::new());
        // It ends without a socket, when it has said what it sees.
        assert!(sessions.open_here(identity, None).await.is_err());
        let seen = std::fs::read_to_string(script.with_extension("env")).unwrap();
        let given: Vec<&str> = seen.lines().filter_map(|line| line.strip_suffix("=given")).collect();
        assert_eq!(given.len(), wanted.len(), "{seen}");
        assert!(wanted.iter().all(|name| given.contains(name)), "{seen}");
    }
    for option in ["pass-env=LD_PRELOAD,start=/x", "pass-env=A B,start=/x", "pass-env=ONE"] {
        let text = format!("session:template(path=/x/{{uid}},{option})");
        assert!(text.parse::<Backend>().is_err(), "{text}");
    }
}

#[test]
fn the_manual_names_every_router_and_option() {
    let page = include_str!("../../../../../docs/backends.md");
    let names: Vec<&str> = ROUTERS.iter().map(|router| router.name).collect();
    assert!(names.is_sorted());
    let (common, _) = page.split_once("\n### ").unwrap();
    for option in COMMON_OPTIONS {
        assert!(common.contains(&format!("| `{}=", option.name)), "{} has no line", option.name);
    }
    for router in ROUTERS {
        let (_, part) = page.split_once(&format!("\n### {}", router.name)).expect(router.name);
        let part = part.split("\n### ").next().unwrap();
        for option in router.options {
            assert!(
                part.contains(&format!("`{}=", option.name)),
                "{} of {} has no line",
                option.name,
                router.name
            );
        }
        assert!(part.contains(&format!("    session:{}(", router.name)), "{} has no example", router.name);
    }
}

#[test]
fn s_065_a_router_that_is_misspelt_or_unclear_is_an_error_with_its_repair() {
    let cases = [
        ("session:templat(path=/x/{uid})", "did you mean `template`?"),
        ("sesion:template(path=/x/{uid})", "did you mean `session`?"),
        ("session:template", "write path=/run/user/{uid}/app.sock"),
        ("session:template(pth=/x/{uid})", "write path=/run/user/{uid}/app.sock"),
        ("session:template(path=/x/{uid},pth=1)", "did you mean `path`?"),
        ("session:template(path=/x/{uid}", "close it: session:KIND(option=value, ...)"),
        ("session:template(path=/x/{uid}) x", "write session:KIND(...),option=value"),
        ("session:template(path=/x/{uid}),ca=/x", "leave it out, or write tls:HOST:PORT"),
        ("session:template(/x/{uid})", "write OPTION=VALUE, and \"...\" around a comma"),
        ("session:template(path=/x/{uid},)", "write OPTION=VALUE, and \"...\" around a comma"),
        ("session:template(path=/x/{who})", "braces hold one of {user}, {uid}, {home}"),
        ("session:template(path=/x/{uid},path=/y/{uid})", ""),
        (
            "session:template(path=/x/{uid}/a,path=/y/{uid}/a)",
            "write path=NAME=PATH, with a name of its own for each",
        ),
        ("session:template(path=/x/{uid},min-uid=x)", ""),
        (
            "session:template(path=tls:h{uid}:1)",
            "write /PATH, unix:/PATH or tcp:HOST:PORT with {user}, {uid} or {home} in it",
        ),
        (
            "session:template(path=/run/app.sock)",
            "write /PATH, unix:/PATH or tcp:HOST:PORT with {user}, {uid} or {home} in it",
        ),
    ];
    for (text, fix) in cases {
        let error = text.parse::<Backend>().map(drop).expect_err(text);
        assert!(fix.is_empty() || error.fix() == fix, "{text}: {error}. {}", error.fix());
    }
    let text = "xpra+session:template( path = \"/run/a, (b/{uid}\" , min_uid=500),proxy-protocol=v2";
    let read = backend(text);
    assert_eq!(read.to_string(), "xpra+session:template,proxy-protocol=v2");
    assert!(read.wants_xpra_hello() && !read.takes_calls());
}
