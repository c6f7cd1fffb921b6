//! The pair of files: made once, for us alone, and every damage.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use parking_lot::Mutex;

use super::*;
use crate::connect::FirstContact;

#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Person for Listener {
    fn tell(&self, notice: &str) {
        self.0.lock().push(notice.to_owned());
    }

    fn accepts(&self, _: &FirstContact) -> bool {
        false
    }
}

fn place() -> (tempfile::TempDir, OwnIdentity) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/countersign/client.pem");
    (folder, OwnIdentity { path, own_directory: true })
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn s_041_the_pair_is_made_once_for_us_alone() {
    let (_folder, own) = place();
    let person = Listener::default();
    let now = SystemTime::now();
    let first = own.open(&person, now).unwrap();
    assert_eq!((mode(own.path()), mode(own.path().parent().unwrap())), (0o600, 0o700));
    let second = own.open(&person, now).unwrap();
    assert_eq!(first.fingerprint(), second.fingerprint());
    assert!(person.0.lock().is_empty());
    assert!(first.not_after() > now + LIFETIME - Duration::from_secs(5));
    assert_eq!((first.ends().len(), first.ends().as_bytes()[10]), (20, b'T'), "{}", first.ends());

    let (_, parsed) = X509Certificate::from_der(first.certificate()).unwrap();
    assert!(parsed.extended_key_usage().unwrap().unwrap().value.client_auth);
    assert!(!parsed.is_ca() && parsed.tbs_certificate.raw_serial()[0] & 0x80 == 0);
    let pem = first.certificate_pem();
    let read = crate::transport::tls::certificates("own", pem.as_bytes()).unwrap();
    assert_eq!(&*read[0], first.certificate());
    assert!(!pem.contains("PRIVATE") && fs::read_to_string(own.path()).unwrap().contains(&pem));
}

#[test]
fn s_041_clients_that_start_at_once_have_one_pair() {
    let (_folder, own) = place();
    let found: Vec<_> = std::thread::scope(|scope| {
        let open = || own.open(&Listener::default(), SystemTime::now()).unwrap().fingerprint();
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    assert_eq!(fs::read_dir(own.path().parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn s_041_what_others_could_read_is_narrowed_and_told() {
    let (_folder, own) = place();
    let directory = own.path().parent().unwrap();
    let first = own.open(&Listener::default(), SystemTime::now()).unwrap();
    for (file, folder, told) in [(0o644, 0o700, 1), (0o600, 0o755, 1), (0o640, 0o750, 2), (0o400, 0o700, 0)] {
        set_mode(own.path(), file);
        set_mode(directory, folder);
        let person = Listener::default();
        let again = own.open(&person, SystemTime::now()).unwrap();
        assert_eq!(again.fingerprint(), first.fingerprint());
        assert_eq!((mode(own.path()) & 0o077, mode(directory)), (0, 0o700), "{file:o}");
        let heard = person.0.lock();
        assert_eq!(heard.len(), told, "{heard:?}");
        assert!(heard.iter().all(|notice| notice.contains("could get at it")), "{heard:?}");
    }
    // A directory that the caller chose is the caller's.
    set_mode(directory, 0o755);
    OwnIdentity::at(own.path()).open(&Listener::default(), SystemTime::now()).unwrap();
    assert_eq!(mode(directory), 0o755);
}

#[test]
fn what_is_damaged_or_over_is_named_with_the_repair() {
    let (_folder, own) = place();
    let person = Listener::default();
    let start = SystemTime::now();
    own.open(&person, start).unwrap();
    let good = fs::read_to_string(own.path()).unwrap();
    let other = new_pair(start).unwrap();
    let certificate = other.split_at(other.find("-----BEGIN CERT").unwrap()).1;
    let key = good.split_at(good.find("-----BEGIN CERT").unwrap()).0;
    for (bad, why) in [
        (String::new(), "it holds no certificate"),
        (good.replace("CERTIFICATE", "SOMETHING"), "it holds no certificate"),
        (certificate.to_owned(), "no readable private key"),
        (format!("{key}{certificate}"), "does not belong"),
        (good[..good.len() - 60].to_owned(), "client certificate"),
    ] {
        fs::write(own.path(), &bad).unwrap();
        let error = own.open(&person, start).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert!(error.fix().unwrap().contains("Remove the file"), "{error}");
        let line = good.lines().nth(1).unwrap();
        assert!(!format!("{error:?}").contains(line), "S-88");
    }
    fs::write(own.path(), &good).unwrap();
    assert!(person.0.lock().is_empty());
    // The date is a server's business: one that keeps a list of certificates does not look at it.
    assert!(own.open(&person, start + LIFETIME).is_ok());
    assert!(person.0.lock()[0].contains("ended at 20"), "{:?}", person.0.lock());

    fs::remove_file(own.path()).unwrap();
    symlink("/dev/null", own.path()).unwrap();
    assert!(own.open(&person, start).unwrap_err().to_string().contains("symbolic link"));
}

#[test]
fn a_home_that_cannot_be_written_to_leaves_the_client_without_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("home"), "a file").unwrap();
    let own = OwnIdentity { path: folder.path().join("home/countersign/client.pem"), own_directory: true };
    assert!(own.open(&Listener::default(), SystemTime::now()).unwrap_err().fix().unwrap().contains("--cert"));
    let person = Arc::new(Listener::default());
    let asked = WhenAsked::new(Shows::Own(own), "tls://a".into(), Arc::<Listener>::clone(&person));
    assert!(asked.resolve(&[], &[]).is_none() && asked.shown().unwrap().is_none());
    assert!(person.0.lock()[0].starts_with("no certificate is shown"), "{:?}", person.0.lock());
}

#[test]
fn s_041_it_is_made_when_a_server_asks_and_not_shown_to_one_that_wants_an_authoritys() {
    let (_folder, own) = place();
    let asked = || WhenAsked::new(Shows::Own(own.clone()), "tls://a".into(), Arc::new(Listener::default()));
    let picky = asked();
    assert!(picky.resolve(&[b"CN=Company"], &[]).is_none() && picky.shown().unwrap().is_none());
    assert!(!own.exists());
    let open = asked();
    assert_eq!(open.shown().unwrap(), None, "nobody asked yet");
    let key = open.resolve(&[], &[]).unwrap();
    assert_eq!(open.shown().unwrap(), Some(Fingerprint::of_certificate(&key.cert[0])));
    fs::write(own.path(), "damaged").unwrap();
    let damaged = asked();
    assert!(damaged.resolve(&[], &[]).is_none() && damaged.shown().is_err());
}

#[test]
fn s_088_debug_shows_no_key() {
    let (_folder, own) = place();
    let identity = own.open(&Listener::default(), SystemTime::now()).unwrap();
    let pem = fs::read_to_string(own.path()).unwrap();
    assert!(!format!("{identity:?}").contains(pem.lines().nth(1).unwrap()));
}
