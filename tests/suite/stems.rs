//! The root folder's name is as long as the file's: archives of every length open, with and without something
//! in front of them.

use std::io::Write;

use ptser::Checkpoint;
use zip::write::SimpleFileOptions;

use crate::build;

const PREFIXES: [&[u8]; 2] = [b"", b"#!/bin/sh\nexit 0\n"];

#[test]
fn root_names_of_every_length_open_in_pytorchs_layout() {
    let pickle = build::good_pickle();
    let data = [0; 24];
    for len in 1..=64 {
        let root = "r".repeat(len);
        let archive = build::archive(&root, &[("data.pkl", &pickle), ("data/0", &data), ("version", b"3\n")]);
        check(&root, &archive);
    }
}

#[test]
fn root_names_of_every_length_open_in_another_writers_layout() {
    for len in 1..=64 {
        let root = "r".repeat(len);
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let records: [(&str, &[u8]); 3] =
            [("data.pkl", &build::good_pickle()), ("data/0", &[0; 24]), ("version", b"3\n")];
        for (name, content) in records {
            writer.start_file(format!("{root}/{name}"), SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        check(&root, &writer.finish().unwrap().into_inner());
    }
}

fn check(root: &str, archive: &[u8]) {
    for prefix in PREFIXES {
        let checkpoint = Checkpoint::from_bytes([prefix, archive].concat()).expect(root);
        assert_eq!(checkpoint.root_folder(), root);
        assert_eq!(checkpoint.archive_offset(), u64::try_from(prefix.len()).unwrap(), "{root}");
        assert_eq!(checkpoint.tensor("w").unwrap().to_contiguous().expect(root).len(), 24);
    }
}

#[test]
fn a_comment_may_hold_the_signatures_of_end_records() {
    let mut archive = build::around(&build::good_pickle());
    for comment in [&b"PK\x05\x06"[..], &[b"PK\x05\x06".repeat(8), b"and PK\x06\x07".to_vec()].concat()] {
        let end = archive.len();
        archive[end - 2..].copy_from_slice(&u16::try_from(comment.len()).unwrap().to_le_bytes());
        let with_comment = [&archive, comment].concat();
        assert!(Checkpoint::from_bytes(with_comment).is_ok(), "{comment:?}");
    }
}
