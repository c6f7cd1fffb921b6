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
