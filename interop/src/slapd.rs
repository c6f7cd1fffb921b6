//! A real OpenLDAP server on loopback: in the clear, with StartTLS, with TLS, and on a Unix socket.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

use nix::sys::signal::Signal;

use crate::{
    PATIENCE, Place,
    certificate::Pair,
    net::{free_port, wait_for_tcp},
    process::{Daemon, must, program},
};

/// A running directory. It has the traps of real ones: an empty password "succeeds" as nobody, and there are
/// referrals to a server that counts who comes.
#[derive(Debug)]
pub struct Slapd {
    /// Its port in the clear and for StartTLS.
    pub port: u16,
    /// Its port inside TLS.
    pub tls_port: u16,
    /// The authority that vouches for its certificate, which names `localhost` only.
    pub authority: Pair,
    place: Place,
    server: Option<Daemon>,
    elsewhere: TcpListener,
}

impl Slapd {
    /// Starts a directory with these people and groups.
    #[must_use]
    pub fn start() -> Self {
        let place = Place::new();
        let authority = Pair::of_authority(&place, "authority");
        let server = Pair::of_server(&authority, &place, "localhost");
        let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        elsewhere.set_nonblocking(true).expect("an own socket");
        std::fs::create_dir(place.path("db")).expect("a folder in an own folder");
        let Pair { cert, key } = &server;
        place.file(
            "slapd.conf",
            CONFIGURATION
                .replace("@DIR@", place.text("").trim_end_matches('/'))
                .replace("@CERT@", cert)
                .replace("@KEY@", key)
                .replace("@CA@", &authority.cert),
        );
        let other = elsewhere.local_addr().expect("a bound socket");
        let entries =
            place.file("entries.ldif", ENTRIES.replace("@ELSEWHERE@", &other.to_string()) + &crowd());
        let configuration = place.text("slapd.conf");
        must(Command::new("/usr/sbin/slapadd").args(["-q", "-f", &configuration, "-l", &entries]));
        let (port, tls_port) = (free_port(), free_port());
        let mut slapd = Self { port, tls_port, authority, place, server: None, elsewhere };
        slapd.resume();
        slapd
    }

    /// Starts it again on the same ports, after [`Slapd::stop`].
    pub fn resume(&mut self) {
        let mut command = program("/usr/sbin/slapd");
        let addresses = format!(
            "ldap://127.0.0.1:{} ldaps://127.0.0.1:{} {}",
            self.port,
            self.tls_port,
            self.local_url()
        );
        command.args(["-f", &self.place.text("slapd.conf"), "-h", &addresses, "-d", "0"]);
        let server = Daemon::start(command);
        wait_for_tcp(&server, self.tls_port);
        self.server = Some(server);
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Lets it hang: it accepts connections, and answers nothing.
    pub fn freeze(&self) {
        self.daemon().signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.daemon().signal(Signal::SIGCONT);
    }

    /// Its Unix socket as an address.
    #[must_use]
    pub fn local_url(&self) -> String {
        format!("ldapi://{}", self.place.text("ldapi").replace('/', "%2F"))
    }

    /// A file of its folder.
    pub fn file(&self, name: &str, content: &str) -> String {
        self.place.file(name, content)
    }

    /// Whether anybody came to where its referrals lead.
    #[must_use]
    pub fn somebody_was_referred(&self) -> bool {
        self.elsewhere.accept().is_ok()
    }

    /// What `ldapwhoami` says after a simple bind in the clear.
    #[must_use]
    pub fn whoami(&self, dn: &str, password: &str) -> String {
        let mut command = Command::new("ldapwhoami");
        let seconds = PATIENCE.as_secs().to_string();
        command.args(["-x", "-H", &format!("ldap://127.0.0.1:{}", self.port), "-D", dn, "-w", password]);
        must(command.args(["-o", &format!("nettimeout={seconds}")]))
    }

    fn daemon(&self) -> &Daemon {
        self.server.as_ref().expect("it runs")
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        // What is stopped cannot end.
        if let Some(server) = self.server.as_ref().filter(|server| server.ended().is_none()) {
            server.signal(Signal::SIGCONT);
        }
    }
}

/// Entries for a search that finds several.
fn crowd() -> String {
    (0..5).fold(String::new(), |mut text, number| {
        let _ = write!(text, "\ndn: cn=twin{number},ou=people,dc=example,dc=test\n");
        let _ = write!(text, "objectClass: inetOrgPerson\ncn: twin{number}\nsn: twin\nuid: twin\n");
        let _ = writeln!(text, "userPassword: twin-word");
        text
    })
}

/// Where people are.
pub const PEOPLE: &str = "ou=people,dc=example,dc=test";

/// The service account, which may read all.
pub const SERVICE: &str = "cn=reader,dc=example,dc=test";

const CONFIGURATION: &str = r#"
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile @DIR@/slapd.pid
argsfile @DIR@/slapd.args
TLSCACertificateFile @CA@
TLSCertificateFile @CERT@
TLSCertificateKeyFile @KEY@
allow bind_anon_dn
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=hidden,dc=example,dc=test" by dn.exact="cn=reader,dc=example,dc=test" read by anonymous auth
access to * by users read by anonymous auth
database mdb
suffix dc=example,dc=test
rootdn cn=admin,dc=example,dc=test
directory @DIR@/db
index objectClass,uid eq
"#;

const ENTRIES: &str = r"
dn: dc=example,dc=test
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,dc=example,dc=test
objectClass: organizationalUnit
ou: people

dn: ou=svc,dc=example,dc=test
objectClass: organizationalUnit
ou: svc

dn: ou=hidden,dc=example,dc=test
objectClass: organizationalUnit
ou: hidden

dn: ou=groups,dc=example,dc=test
objectClass: organizationalUnit
ou: groups

dn: cn=reader,dc=example,dc=test
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reader-word

dn: uid=alice,ou=people,dc=example,dc=test
objectClass: inetOrgPerson
objectClass: posixAccount
uid: alice
cn: Alice
sn: A
uidNumber: 21001
gidNumber: 21002
homeDirectory: /home/alice
userPassword: alice-word

dn: uid=Zoë,ou=people,dc=example,dc=test
objectClass: inetOrgPerson
uid: Zoë
cn: Zoe
sn: Z
userPassword: zoë-wörd

dn: uid=root,ou=people,dc=example,dc=test
objectClass: inetOrgPerson
objectClass: posixAccount
uid: root
cn: root
sn: root
uidNumber: 0
gidNumber: 0
homeDirectory: /root
userPassword: root-word

dn: uid=mute,ou=people,dc=example,dc=test
objectClass: inetOrgPerson
uid: mute
cn: mute
sn: mute

dn: cn=odd,ou=people,dc=example,dc=test
objectClass: inetOrgPerson
uid: o*d)(uid=\,x
cn: odd
sn: odd
userPassword: odd-word

dn: uid=bot,ou=svc,dc=example,dc=test
objectClass: inetOrgPerson
uid: bot
cn: bot
sn: bot
userPassword: bot-word

dn: uid=bot\,ou\3Dsvc,ou=people,dc=example,dc=test
objectClass: inetOrgPerson
uid: bot,ou=svc
cn: bot
sn: bot
userPassword: other-word

dn: uid=shy,ou=hidden,dc=example,dc=test
objectClass: inetOrgPerson
uid: shy
cn: shy
sn: shy
userPassword: shy-word

dn: cn=ops,ou=groups,dc=example,dc=test
objectClass: groupOfNames
cn: ops
member: uid=alice,ou=people,dc=example,dc=test
member: uid=shy,ou=hidden,dc=example,dc=test

dn: cn=posix,ou=groups,dc=example,dc=test
objectClass: posixGroup
cn: posix
gidNumber: 500
memberUid: alice

dn: cn=others,ou=groups,dc=example,dc=test
objectClass: groupOfNames
cn: others
member: cn=odd,ou=people,dc=example,dc=test

dn: ou=elsewhere,dc=example,dc=test
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://@ELSEWHERE@/ou=elsewhere,dc=example,dc=test
";
