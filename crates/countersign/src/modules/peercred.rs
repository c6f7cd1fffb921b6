//! `peercred`: lets in the users and groups of this machine that the kernel vouches for.

use rustix::process::{getegid, geteuid};

use super::{Context, Module, OptionSpec, Options};
use crate::{
    Claim, Identity, Peer, Refusal, Username, Verifier,
    error::ConfigError,
    proto::{
        chain::CheckPeer,
        peer::{Credentials, Origin},
    },
    sys::{
        accounts::{Account, UnknownId, parse_gid, parse_uid},
        peer::{is_account, is_group},
        vsock,
    },
};

pub(super) struct PeerCred;

impl Module for PeerCred {
    fn name(&self) -> &'static str {
        "peercred"
    }

    fn summary(&self) -> &'static str {
        "lets in local users and groups that the kernel vouches for"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "For Unix sockets: nothing is asked, the kernel says who connected. Without a list only the gateway's own user \
         gets in. Users and groups are names or numbers, separated by colons, and an option may be repeated; $UID and \
         $GID stand for the gateway's own ids, other $NAMES for environment variables. Supplementary groups count as \
         the process had them when it connected. The identity is the peer's account, with that account's uid and \
         primary gid, whatever group the program ran under. A uid that has no account gets in only where its number \
         is listed (or is the gateway's own), and names nobody: neither any=yes nor a group lets in the processes \
         that a deleted account left behind. root gets in only where it is listed. On a socket without kernel \
         credentials, and for a peer from a foreign user namespace, everybody is refused. On vsock there are no users: \
         cid lists the virtual machines that get in, by number, and every program on them does; they name nobody."
    }

    fn example(&self) -> &'static str {
        "peercred(user=root:daemon, group=users)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Peer(Box::new(Listed::configure(options)?)))
    }
}

/// Who gets in.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    uids: Vec<u32>,
    gids: Vec<u32>,
    /// Both lists must hold the peer.
    both: bool,
    /// Every account gets in; the lists are empty.
    any: bool,
    /// Machines on vsock, whoever is on them.
    cids: Vec<u32>,
}

impl Listed {
    fn configure(options: &mut Options) -> Result<Self, ConfigError> {
        let any = options.flag("any", false)?;
        let both = match options.take("match")?.as_deref().map(String::as_str) {
            None | Some("any") => false,
            Some("all") => true,
            Some(_) => {
                return Err(options.error(
                    "match",
                    "it is neither any nor all",
                    "write match=any or match=all",
                ));
            }
        };
        let mut uids = ids(options, ["uid", "user"], parse_uid)?;
        let gids = ids(options, ["gid", "group"], parse_gid)?;
        let cids = cids(options)?;
        let listed = !(uids.is_empty() && gids.is_empty() && cids.is_empty());
        let allow_owner = options.flag("allow-owner", !any && !listed)?;
        if any && (listed || allow_owner) {
            return Err(options.error("any", "the lists beside it are without use", "leave one of them out"));
        }
        if both && (uids.is_empty() || gids.is_empty() || allow_owner) {
            let fix = "write a list of users and one of groups, without allow-owner";
            return Err(options.error("match", "there are no two lists to be in", fix));
        }
        if !(any || listed || allow_owner) {
            return Err(options.error("allow-owner", "nobody would get in", "list users or groups"));
        }
        if allow_owner {
            uids.push(geteuid().as_raw());
        }
        Ok(Self { uids, gids, both, any, cids })
    }

    fn admits(&self, known: &Credentials, account: Option<&Account>) -> Result<bool, Refusal> {
        let by_uid = self.uids.contains(&known.uid);
        let Some(account) = account else {
            return Ok(by_uid && (!self.both || self.has_group(known, None)?));
        };
        if self.any || (by_uid && !self.both) {
            return Ok(true);
        }
        Ok((by_uid || !self.both) && self.has_group(known, Some(account))?)
    }

    /// Whether the peer is in a listed group: as the kernel says, else as the group database does (W20).
    fn has_group(&self, known: &Credentials, account: Option<&Account>) -> Result<bool, Refusal> {
        let listed = |gid: &u32| is_group(*gid) && self.gids.contains(gid);
        if self.gids.is_empty() || listed(&known.gid) {
            return Ok(!self.gids.is_empty());
        }
        match (&known.groups, account) {
            (Some(groups), _) => Ok(groups.iter().any(listed)),
            (None, Some(account)) => Ok(account.groups().map_err(unreadable)?.iter().any(listed)),
            (None, None) => Ok(false),
        }
    }
}

impl CheckPeer for Listed {
    fn check(&self, peer: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        if let Origin::Vsock { cid, .. } = peer.origin {
            // S-63: matched, and never anybody's name.
            return match self.cids.contains(&cid) {
                true => Ok(None),
                false => Err(Refusal::peer_denied(format!("machine {cid} is not listed"))),
            };
        }
        let known = peer.credentials().filter(|known| is_account(known.uid));
        let known = known.ok_or_else(|| {
            Refusal::peer_denied("the kernel knows no user at the other end: peercred is for Unix sockets")
        })?;
        let account = Account::of_uid(known.uid).map_err(unreadable)?;
        if !self.admits(known, account.as_ref())? {
            let lacks = if account.is_none() { ", which has no account," } else { "" };
            return Err(Refusal::peer_denied(format!("uid {}{lacks} is not listed", known.uid)));
        }
        account.map(identity).transpose()
    }
}

/// The account's own gid, not the peer's: a program that is set-gid must not pass its group on to a
/// session.
fn identity(account: Account) -> Result<Identity, Refusal> {
    Ok(Identity::new(Username::parse(&account.name)?).with_ids(Some(account.uid), Some(account.gid)))
}

fn unreadable(error: std::io::Error) -> Refusal {
    Refusal::module_failed(format!("the account database cannot be read: {error}"))
}

/// The ids of all lists of two options that mean the same.
fn ids(
    options: &mut Options,
    names: [&str; 2],
    parse: fn(&str) -> Result<u32, UnknownId>,
) -> Result<Vec<u32>, ConfigError> {
    let mut ids = Vec::new();
    for name in names {
        for list in options.take_all(name) {
            for (position, entry) in list.split([':', ',']).enumerate() {
                // The position stands for the text: an error repeats no value (S-88).
                let wrong = |why: &str| {
                    let why = format!("entry {} {why}", position + 1);
                    options.error(name, why, "write names or numbers of this system, with colons between")
                };
                let text = expand(entry.trim()).ok_or_else(|| wrong("is a variable that is not set"))?;
                ids.push(parse(&text).map_err(|_| wrong("names nobody"))?);
            }
        }
    }
    Ok(ids)
}

/// The machines of `cid`. That of everybody is none.
fn cids(options: &mut Options) -> Result<Vec<u32>, ConfigError> {
    let mut cids = Vec::new();
    for list in options.take_all("cid") {
        for (position, entry) in list.split([':', ',']).enumerate() {
            let cid = vsock::number(entry.trim()).filter(|cid| *cid != vsock::ANY);
            cids.push(cid.ok_or_else(|| {
                let why = format!("entry {} is no machine", position + 1);
                options.error("cid", why, "write numbers, host or local, with colons between")
            })?);
        }
    }
    Ok(cids)
}

/// `$UID` and the like; any other text as it is. `None` for a variable that is not set.
fn expand(entry: &str) -> Option<String> {
    let Some(name) = entry.strip_prefix('$') else { return Some(entry.to_owned()) };
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    match name {
        // Shells know these two without putting them into the environment.
        "UID" | "EUID" => Some(geteuid().as_raw().to_string()),
        "GID" | "EGID" => Some(getegid().as_raw().to_string()),
        _ => std::env::var(name).ok(),
    }
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("uid", "USER[:USER...]", "the gateway's own", "users to let in, by name or number"),
    OptionSpec::new("user", "USER[:USER...]", "", "the same as uid"),
    OptionSpec::new("gid", "GROUP[:GROUP...]", "", "groups whose members to let in, by name or number"),
    OptionSpec::new("group", "GROUP[:GROUP...]", "", "the same as gid"),
    OptionSpec::new("match", "any|all", "any", "with users and groups listed: be in either list, or in both"),
    OptionSpec::new("any", "yes|no", "no", "let every account of this machine in"),
    OptionSpec::new(
        "cid",
        "CID[:CID...]",
        "",
        "virtual machines to let in, on vsock, by number; host and local are two",
    ),
    OptionSpec::new("allow-owner", "yes|no", "no", "let the gateway's own user in beside the lists"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::error::Reason;

    const STRANGER: u32 = 3_999_999_999;

    fn listed(values: &[(&str, &str)]) -> Result<Listed, ConfigError> {
        let mut options = Options::new("peercred", values.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        let listed = Listed::configure(&mut options)?;
        options.finish(&[]).map(|()| listed)
    }

    fn check(values: &[(&str, &str)], known: Credentials) -> Result<Option<Identity>, Refusal> {
        listed(values).unwrap().check(&Peer::unix(Some(known)), &Claim::named("mallory").unwrap())
    }

    fn passes(values: &[(&str, &str)], known: Credentials) -> bool {
        match check(values, known) {
            Ok(_) => true,
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::PeerDenied);
                false
            }
        }
    }

    fn daemon() -> Account {
        Account::named("daemon").unwrap().unwrap()
    }

    fn as_daemon() -> Credentials {
        let daemon = daemon();
        Credentials::new(daemon.uid, daemon.gid).with_groups(Some(vec![]))
    }

    #[test]
    fn without_a_list_only_the_gateways_own_user_gets_in() {
        let own = geteuid().as_raw();
        assert!(passes(&[], Credentials::new(own, 4242)));
        assert!(!passes(&[], Credentials::new(own + 1, own)));
        assert!(!passes(&[("uid", "daemon")], Credentials::new(own, own)));
        assert!(passes(&[("uid", "daemon"), ("allow-owner", "yes")], Credentials::new(own, own)));
    }

    #[test]
    fn s_068_the_identity_is_the_account_never_the_claimed_name_nor_the_programs_group() {
        let identity = check(&[("user", "daemon")], Credentials::new(daemon().uid, 4242)).unwrap().unwrap();
        assert_eq!(identity.name.as_str(), "daemon");
        assert_eq!((identity.uid, identity.gid), (Some(daemon().uid), Some(daemon().gid)));
    }

    #[test]
    fn lists_merge_and_take_names_numbers_and_variables() {
        let lists =
            [("uid", "daemon:0"), ("user", "17,$UID"), ("uid", "${EUID}"), ("gid", "$GID"), ("group", "5")];
        let expected = Listed {
            uids: vec![daemon().uid, 0, geteuid().as_raw(), 17, geteuid().as_raw()],
            gids: vec![getegid().as_raw(), 5],
            both: false,
            any: false,
            cids: Vec::new(),
        };
        assert_eq!(listed(&lists).unwrap(), expected);
    }

    #[test]
    fn either_list_lets_in_unless_both_are_asked_for() {
        let (either, both) =
            ([("uid", "daemon"), ("gid", "7777")], [("uid", "daemon"), ("gid", "7777"), ("match", "all")]);
        let member = || as_daemon().with_groups(Some(vec![7776, 7777]));
        assert!(passes(&either, as_daemon()));
        assert!(!passes(&both, as_daemon()));
        assert!(passes(&both, member()));
        assert!(passes(&[("gid", "7777")], member()));
        assert!(passes(&[("gid", "7777")], Credentials::new(daemon().uid, 7777)));
        assert!(!passes(&[("gid", "7777")], as_daemon()));
    }

    #[test]
    fn s_063_groups_come_from_the_database_where_the_kernel_tells_none() {
        let gid = daemon().gid.to_string();
        let lists: &[(&str, &str)] = &[("gid", &gid)];
        let without = Credentials::new(daemon().uid, 4242);
        assert!(passes(lists, without.clone()));
        assert!(!passes(lists, without.with_groups(Some(vec![]))));
    }

    #[test]
    fn s_070_a_uid_without_an_account_gets_in_only_by_its_number_and_names_nobody() {
        let stranger = || Credentials::new(STRANGER, 7777).with_groups(Some(vec![7777]));
        let number = STRANGER.to_string();
        assert_eq!(check(&[("uid", &number)], stranger()), Ok(None));
        assert_eq!(check(&[("uid", &number), ("gid", "7777"), ("match", "all")], stranger()), Ok(None));
        assert!(!passes(&[("uid", &number), ("gid", "1"), ("match", "all")], stranger()));
        assert!(!passes(&[("any", "yes")], stranger()));
        assert!(!passes(&[("gid", "7777")], stranger()));
        assert!(passes(&[("any", "yes")], as_daemon()));
    }

    #[test]
    fn s_063_the_overflow_ids_match_nothing() {
        assert!(!passes(&[("uid", "65534"), ("gid", "65534")], Credentials::new(65534, 65534)));
        assert!(!passes(&[("gid", "65534")], Credentials::new(daemon().uid, 65534)));
    }

    #[test]
    fn s_063_on_vsock_machines_are_let_in_by_number_alone_and_name_nobody() {
        let check = |values: &[(&str, &str)], cid| {
            listed(values).unwrap().check(&Peer::vsock(cid, 1025), &Claim::named("root").unwrap())
        };
        let lists: &[(&str, &str)] = &[("cid", "3:host"), ("cid", "7")];
        for cid in [2, 3, 7] {
            assert_eq!(check(lists, cid), Ok(None), "{cid}");
        }
        for values in [lists, &[], &[("any", "yes")], &[("uid", "4")], &[("gid", "4")]] {
            assert_eq!(check(values, 4).unwrap_err().reason, Reason::PeerDenied, "{values:?}");
        }
        // A list of machines lets in nobody on a Unix socket, not even the owner.
        assert!(!passes(&[("cid", "3")], Credentials::new(geteuid().as_raw(), 0)));
        for wrong in ["", "any", "auto", "4294967295", "-1", "x", "3::4"] {
            assert!(listed(&[("cid", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn s_078_without_credentials_everybody_is_refused() {
        let address = "127.0.0.1:1".parse().unwrap();
        for peer in [Peer::unix(None), Peer::tcp(address, address)] {
            let refusal = listed(&[("any", "yes")]).unwrap().check(&peer, &Claim::anonymous()).unwrap_err();
            assert_eq!(refusal.reason, Reason::PeerDenied);
        }
    }

    #[test]
    fn s_065_what_is_unknown_unclear_or_without_use_is_an_error_that_repeats_no_value() {
        for wrong in [
            &[("uid", "no-such-user-here")][..],
            &[("uid", "daemon:no-such-user-here")],
            &[("group", "no-such-group-here")],
            &[("uid", "")],
            &[("uid", "daemon::root")],
            &[("uid", "-1")],
            &[("uid", "4294967295")],
            &[("uid", "$COUNTERSIGN_TEST_NOT_SET")],
            &[("match", "some")],
            &[("match", "all"), ("uid", "0")],
            &[("any", "yes"), ("uid", "0")],
            &[("any", "yes"), ("allow-owner", "yes")],
            &[("allow-owner", "no")],
            &[("pid", "1")],
        ] {
            let error = listed(wrong).unwrap_err();
            assert!(!error.to_string().contains("no-such"), "{error}");
        }
        let error = listed(&[("uid", "daemon:no-such-user-here")]).unwrap_err();
        assert_eq!(error.to_string(), "option uid of peercred: entry 2 names nobody");
    }
}
