//! `peercred` with a second local account: the kernel says who connects, and nobody else is believed.

use std::process::Command;

use countersign_interop::{
    Place,
    account::Account,
    gateway::Gateway,
    process::{Finished, run},
};
use nix::unistd::{Uid, User};

#[test]
fn the_owner_gets_in_without_a_list_and_another_account_does_not() {
    let door = Door::open("peercred");
    let me = User::from_uid(Uid::effective()).expect("the user database").expect("an own account");
    assert_eq!(door.knock(None).verified_name(), Some(me.name));
    let Some(other) = Account::create() else { return };
    assert_eq!(door.knock(Some(&other)).verified_name(), None);
}

#[test]
fn a_listed_account_gets_in_under_its_own_name() {
    let Some(other) = Account::create() else { return };
    for chain in [
        format!("peercred(user={})", other.name),
        format!("peercred(uid={})", other.uid),
        format!("peercred(group={})", other.name),
        format!("peercred(gid={})", other.gid),
    ] {
        let door = Door::open(&chain);
        assert_eq!(door.knock(Some(&other)).verified_name().as_ref(), Some(&other.name), "{chain}");
    }
}

#[test]
fn an_account_that_is_not_listed_stays_outside() {
    let (Some(listed), Some(other)) = (Account::create(), Account::create()) else { return };
    let door = Door::open(&format!("peercred(user={})", listed.name));
    assert_eq!(door.knock(Some(&listed)).verified_name(), Some(listed.name.clone()));
    let refused = door.knock(Some(&other));
    assert_eq!(refused.verified_name(), None);
    // The attempt is on record under the name the kernel gave, and the listed name is told to nobody.
    assert!(!refused.0.all().contains(&listed.name), "{}", refused.0.all());
    assert!(door.gateway.log().contains(&other.uid.to_string()), "{}", door.gateway.log());
}

#[test]
fn a_supplementary_group_counts() {
    let (Some(mut member), Some(group)) = (Account::create(), Account::create()) else { return };
    let door = Door::open(&format!("peercred(group={})", group.name));
    assert_eq!(door.knock(Some(&member)).verified_name(), None);
    countersign_interop::process::must(Command::new("usermod").args(["-aG", &group.name, &member.name]));
    member.groups.push(group.gid);
    assert_eq!(door.knock(Some(&member)).verified_name().as_ref(), Some(&member.name));
}

/// A socket that every account can reach, so that only the chain decides.
struct Door {
    gateway: Gateway,
    socket: String,
    _place: Place,
}

impl Door {
    fn open(chain: &str) -> Self {
        let place = Place::new();
        place.open_to_all();
        let socket = place.text("door");
        let gateway = Gateway::start(&[format!("--bind={socket},mode=666,protocol=stream,auth={chain}")]);
        Self { gateway, socket, _place: place }
    }

    /// Connects with socat, as this account or as whoever runs the tests, and reads what the gateway says.
    fn knock(&self, account: Option<&Account>) -> Answer {
        let mut command = account.map_or_else(|| Command::new("socat"), |account| account.command("socat"));
        Answer(run(command.args(["-t", "20", "-", &format!("UNIX-CONNECT:{}", self.socket)])))
    }
}

/// What `builtin:whoami` wrote before it saw the end of the input, or nothing after a refusal.
struct Answer(Finished);

impl Answer {
    fn verified_name(&self) -> Option<String> {
        let line = self.0.stdout.lines().next()?;
        let facts: serde_json::Value = serde_json::from_str(line).expect("whoami is one line of JSON");
        facts["user"].as_str().map(str::to_owned)
    }
}
