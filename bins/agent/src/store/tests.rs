//! The store on disks that are whole, that fail, and that lose power: after every step of every kind of
//! change, what is read again is the ledger of a moment that is not older than what was acknowledged.

mod faults;

use std::{fs, path::Path};

use engine::{
    ledger::{
        AddressEntry, AddressState, EniEntry, EniStage, Further, Intent, IntentCall, Joint, Lent,
        Member, Reach,
    },
    netplan::LocalTraffic,
};
use faults::{Dice, FaultyDisk, Trouble};
use model::{ClientToken, DualStack, EniId, InterfaceName, Mac, VSwitchId, net::Link};

use super::*;

fn eni(n: u64) -> EniId {
    EniId::new(format!("eni-{n}")).unwrap()
}

/// A batch of changes as the machine might make them, and the ledger they lead to.
fn batch(dice: &mut Dice, ledger: &mut Ledger) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..=dice.below(3) {
        let n = dice.below(4);
        let mut more = match dice.below(4) {
            0 => {
                let entry = EniEntry {
                    trunk: false,
                    id: eni(n),
                    mac: Mac([2; 6]),
                    vswitch: VSwitchId::new("vsw-1").unwrap(),
                    stage: EniStage::Attached,
                    gateway: DualStack::default(),
                    subnet: DualStack::default(),
                };
                let address = |i: u64| {
                    Change::Put(Entry::Address(AddressEntry {
                        address: [10, 0, n as u8, i as u8].into(),
                        eni: eni(n),
                        primary: i == 0,
                        prefix: None,
                        state: AddressState::Fresh,
                        unseen: 0,
                        reserved: None,
                    }))
                };
                let mut all = vec![Change::Put(Entry::Eni(entry))];
                all.extend((0..=dice.below(8)).map(address));
                all
            }
            1 => vec![Change::Delete(EntryKey::Eni(eni(n)))],
            2 => vec![Change::Delete(EntryKey::Intent(n))],
            _ => vec![Change::Put(Entry::Intent(Intent {
                id: n,
                token: ClientToken::new(format!("token-{}", dice.below(1_000_000))).unwrap(),
                call: IntentCall::AssignAddresses {
                    eni: eni(n),
                    count: 1,
                },
            }))],
        };
        changes.append(&mut more);
    }
    changes.retain(|change| ledger.apply(change).is_ok());
    changes
}

/// What a machine did: the ledgers it went through, and which of them it was told are durable.
struct Life {
    moments: Vec<Ledger>,
    acknowledged: usize,
}

impl Life {
    fn new() -> Self {
        Self {
            moments: vec![Ledger::default()],
            acknowledged: 0,
        }
    }

    /// Writes `batches`, each until it is written or the power is gone.
    fn go_on(&mut self, disk: &FaultyDisk, dice: &mut Dice, batches: u64) {
        let Ok((mut store, contents, aside)) = Store::open(disk.clone()) else {
            return;
        };
        assert!(aside.is_none(), "{aside:?}");
        self.is_one_of_its_moments(&contents.ledger);
        let mut ledger = contents.ledger;
        self.moments = vec![ledger.clone()];
        self.acknowledged = 0;
        for _ in 0..batches {
            let changes = batch(dice, &mut ledger);
            self.moments.push(ledger.clone());
            while store.write(&changes, &ledger).is_err() {
                if disk.crashed() {
                    return;
                }
            }
            self.acknowledged = self.moments.len() - 1;
        }
    }

    fn is_one_of_its_moments(&self, found: &Ledger) {
        let from = self.acknowledged;
        assert!(
            self.moments[from..].contains(found),
            "{from} were acknowledged, and what is read is neither that nor newer"
        );
    }
}

/// How many steps a life takes that nothing disturbs.
fn steps(seed: u64, batches: u64) -> u64 {
    let disk = FaultyDisk::new(seed);
    Life::new().go_on(&disk, &mut Dice(seed), batches);
    disk.steps()
}

#[test]
fn what_is_acknowledged_survives_a_crash_at_every_step() {
    const BATCHES: u64 = 6;
    let mut crashes = 0;
    for seed in 0..8 {
        for crash in 0..steps(seed, BATCHES) {
            let mut disk = FaultyDisk::new(seed);
            disk.crash_after(crash);
            let (mut life, mut dice) = (Life::new(), Dice(seed));
            // The second time the power fails early, often while the store is being repaired.
            for again in [dice.below(12), u64::MAX / 2] {
                life.go_on(&disk, &mut dice, BATCHES);
                disk = disk.after_crash(seed * 1000 + crash);
                disk.crash_after(again);
            }
            let (_, contents, aside) = Store::open(disk).unwrap();
            assert!(aside.is_none(), "{aside:?}");
            life.is_one_of_its_moments(&contents.ledger);
            crashes += 1;
        }
    }
    assert!(crashes > 500, "only {crashes} crashes were tried");
}

#[test]
fn a_disk_that_fails_and_recovers_loses_nothing_that_was_acknowledged() {
    const BATCHES: u64 = 6;
    for trouble in [Trouble::Full, Trouble::ReadOnly, Trouble::SyncFails] {
        for seed in 0..4 {
            for from in 1..steps(seed, BATCHES) {
                let disk = FaultyDisk::new(seed);
                let (mut life, mut dice) = (Life::new(), Dice(seed));
                life.go_on(&disk, &mut dice, 1);
                disk.trouble(trouble, from, 1 + dice.below(20));
                life.go_on(&disk, &mut dice, BATCHES);
                let disk = disk.after_crash(seed ^ from);
                let (_, contents, aside) = Store::open(disk).unwrap();
                assert!(aside.is_none(), "{trouble:?}: {aside:?}");
                life.is_one_of_its_moments(&contents.ledger);
            }
        }
    }
}

#[test]
fn a_start_in_trouble_touches_nothing() {
    let mut dice = Dice(1);
    for trouble in [Trouble::Full, Trouble::ReadOnly, Trouble::SyncFails] {
        let disk = FaultyDisk::new(1);
        let mut life = Life::new();
        life.go_on(&disk, &mut dice, 5);
        let disk = disk.after_crash(2);
        disk.trouble(trouble, 0, 1000);
        match Store::open(disk.clone()) {
            Ok((_, contents, _)) => life.is_one_of_its_moments(&contents.ledger),
            Err(error) => assert!(!error.is_damage(), "{trouble:?}: {error:?}"),
        }
        assert!(!disk.has(DAMAGED), "{trouble:?}: a good ledger is given up");
    }
}

#[test]
fn a_file_with_a_flipped_byte_is_read_right_or_set_aside() {
    let (disk, mut life) = (FaultyDisk::new(3), Life::new());
    life.go_on(&disk, &mut Dice(3), 20);
    let mut aside_count = 0;
    for seed in 0..600 {
        let disk = disk.clone().after_crash(0);
        let mut dice = Dice(seed);
        disk.flip(FILE, dice.below(u64::MAX), 1 << dice.below(8));
        let (_, contents, aside) = Store::open(disk.clone()).unwrap();
        match aside {
            Some(_) => assert!(disk.has(DAMAGED) && contents.ledger == Ledger::default()),
            None => assert!(life.moments.contains(&contents.ledger), "seed {seed}"),
        }
        aside_count += usize::from(disk.has(DAMAGED));
    }
    assert!(aside_count > 0, "no flip met anything");
}

fn open(directory: &Path) -> Result<(Store, Contents, Option<SetAside>), StoreError> {
    Store::open(Directory::at(directory).unwrap())
}

#[test]
fn what_cannot_be_a_ledger_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    for junk in ["", "this is no database", "redb, cut"] {
        fs::write(&file, junk).unwrap();
        let (_, contents, aside) = open(directory.path()).unwrap();
        assert_eq!(contents.ledger, Ledger::default());
        let aside = aside.unwrap();
        assert_eq!(fs::read_to_string(&aside.path).unwrap(), junk, "{aside:?}");
    }
}

/// Rows as they stand in a file, written as they are.
fn write_raw(store: &Store, table: TableDefinition<'_, &str, &[u8]>, rows: &[(&str, &[u8])]) {
    let write = store.file.as_ref().unwrap().begin_write().unwrap();
    let mut open = write.open_table(table).unwrap();
    for (key, value) in rows {
        open.insert(key, value).unwrap();
    }
    drop(open);
    write.commit().unwrap();
}

#[test]
fn the_rows_of_the_first_release_are_read() {
    let golden = include_str!("tests/format-1.jsonl");
    let directory = tempfile::tempdir().unwrap();
    let (store, ..) = open(directory.path()).unwrap();
    for line in golden.lines() {
        let (key, value) = line.split_once('\t').unwrap();
        write_raw(&store, ROWS, &[(key, value.as_bytes())]);
    }
    drop(store);
    let (_, contents, aside) = open(directory.path()).unwrap();
    assert!(aside.is_none(), "{aside:?}");
    let found = contents.ledger.entries().map(|entry| row_key(&entry.key()));
    let wanted = golden.lines().filter_map(|line| line.split('\t').next());
    assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
}

/// An older release would keep the first interface and forget the others.
#[test]
fn the_format_rises_with_the_first_row_that_an_older_release_misreads() {
    let golden = include_str!("tests/format-1.jsonl");
    let rows = golden.lines().filter_map(|line| line.split_once('\t'));
    let mut rows = rows.filter_map(|(_, row)| match serde_json::from_str(row) {
        Ok(Entry::Attachment(attachment)) => Some(attachment),
        _ => None,
    });
    let one = rows.next().expect("the first release had attachments");
    let mut several = one.clone();
    several.further = vec![Further {
        interface: InterfaceName::new("eth1").unwrap(),
        host_link: InterfaceName::new("cali1").unwrap(),
        addresses: DualStack::default(),
        member: Member {
            eni: eni(1),
            reach: Reach::Vlan(1),
            subnet: DualStack::default(),
            default_route: false,
            routes: Vec::new(),
            local: LocalTraffic::Strict,
        },
    }];
    let mut whole = one.clone();
    whole.member = Some(Box::new(several.further[0].member.clone()));
    whole.members_mut().for_each(|member| {
        member.reach = Reach::Device(Lent {
            mac: Mac([3; 6]),
            home: InterfaceName::new("eth2").unwrap(),
            up: true,
            gateway: DualStack::default(),
            by_host: Vec::new(),
        });
    });
    let directory = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(directory.path()).unwrap();
    let ledger = Ledger::default();
    let format = |store: &Store| {
        let read = store.file.as_ref().unwrap().begin_read().unwrap();
        fact(&read, FORMAT_ROW).unwrap()
    };
    let mut ipvlan = one.clone();
    ipvlan.joint = Joint::Ipvlan(Link {
        name: InterfaceName::new("eth1").unwrap(),
        index: 7,
        mac: Mac([4; 6]),
        up: true,
    });
    for (row, wanted) in [
        (&one, 1_u64),
        (&several, 2),
        (&one, 2),
        (&whole, 3),
        (&ipvlan, 4),
        (&whole, 4),
    ] {
        let change = Change::Put(Entry::Attachment(row.clone()));
        store.write(&[change], &ledger).unwrap();
        assert_eq!(format(&store), Some(wanted.to_be_bytes().to_vec()));
    }
    drop(store);
    let (store, contents, _) = open(directory.path()).unwrap();
    assert_eq!(store.format, 4);
    let found = contents.ledger.attachment(&whole.key);
    assert_eq!(found, Some(&whole));
}

#[test]
fn a_newer_file_is_refused_and_a_row_nobody_can_read_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (store, ..) = open(directory.path()).unwrap();
    write_raw(&store, FACTS, &[(FORMAT_ROW, &9_u64.to_be_bytes())]);
    write_raw(&store, ROWS, &[("eni/eni-1", b"{\"Levitating\":{}}")]);
    drop(store);
    let refused = open(directory.path()).err().unwrap();
    let told = format!("format 9, this release knows {FORMAT}");
    assert!(refused.to_string().contains(&told), "{refused}");
    assert!(directory.path().join(FILE).exists(), "it stays where it is");
    let (file, other) = (directory.path().join(FILE), directory.path().join(DRAFT));
    fs::rename(&file, &other).unwrap();
    let (store, ..) = open(directory.path()).unwrap();
    write_raw(&store, ROWS, &[("eni/eni-1", b"{\"Levitating\":{}}")]);
    drop(store);
    let (_, _, aside) = open(directory.path()).unwrap();
    assert!(aside.unwrap().why.contains("eni/eni-1"));
}

/// Writes batch after batch and says so, until it is killed.
#[test]
#[ignore = "the program that `a_killed_process_has_all_it_acknowledged` kills"]
fn writer() {
    let directory = std::env::var_os("STORE_OF_THE_TEST").unwrap();
    let (mut store, contents, _) = open(Path::new(&directory)).unwrap();
    let mut ledger = contents.ledger;
    for id in 0.. {
        let change = Change::Put(Entry::Intent(Intent {
            id,
            token: ClientToken::new("t").unwrap(),
            call: IntentCall::AssignAddresses {
                eni: eni(0),
                count: 1,
            },
        }));
        ledger.apply(&change).unwrap();
        store.write(&[change], &ledger).unwrap();
        println!("acknowledged {id}");
    }
}

#[test]
fn a_killed_process_has_all_it_acknowledged() {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };
    for kill_after in [1, 2, 3, 10, 40] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "store::tests::writer",
                "--nocapture",
            ])
            .env("STORE_OF_THE_TEST", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = lines.map_while(Result::ok);
        let mut told = told
            .by_ref()
            .filter(|line| line.starts_with("acknowledged"));
        let mut last = told.nth(kill_after).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // It went on until the kill; what it said by then counts too.
        last = told.last().unwrap_or(last);
        let acknowledged: usize = last.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, contents, aside) = open(directory.path()).unwrap();
        assert!(aside.is_none(), "{aside:?}");
        let found = contents.ledger.intents().count();
        assert!(
            (acknowledged + 1..=acknowledged + 2).contains(&found),
            "{found} rows, {} acknowledged",
            acknowledged + 1
        );
    }
}
