//! Objects that are part of what they are made from, and states that functions set: written again as they were.

use ptser::{Checkpoint, ErrorKind, Globals, LoadOptions, SaveOptions};

/// What CPython's pickler writes in protocols 2 and 4, of classes of a module `m`: `O` is a plain object, `C(x)` and `K([…])`
/// are reduced to these calls, and `setter` is the sixth that `__reduce__` gives.
const INSIDE_THEMSELVES: [(&str, &[u8], &[u8]); 5] = [
    (
        "o = O(); s = {o}; o.s = s; s",
        b"\x80\x02c__builtin__\nset\nq\x00]q\x01cm\nO\nq\x02)\x81q\x03}q\x04X\x01\x00\x00\x00sq\x05h\x00]q\x06h\x03a\
          \x85q\x07Rq\x08sba\x85q\x09R0h\x08.",
        b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8f\x94(\x8c\x01m\x94\x8c\x01O\x94\x93\x94)\x81\x94}\x94\
          \x8c\x01s\x94h\x00sb\x90.",
    ),
    (
        "o = O(); s = frozenset([o]); o.s = s; [s, o]",
        b"\x80\x02]q\x00(c__builtin__\nfrozenset\nq\x01]q\x02cm\nO\nq\x03)\x81q\x04}q\x05X\x01\x00\x00\x00sq\x06\
          h\x01]q\x07h\x04a\x85q\x08Rq\x09sba\x85q\nR0h\x09h\x04e.",
        b"\x80\x04\x95%\x00\x00\x00\x00\x00\x00\x00]\x94((\x8c\x01m\x94\x8c\x01O\x94\x93\x94)\x81\x94}\x94\
          \x8c\x01s\x94(h\x04\x91\x94sb1h\x07h\x04e.",
    ),
    (
        "d = {}; c = C(d); d['x'] = c; [c, d]",
        b"\x80\x02]q\x00(cm\nC\nq\x01}q\x02X\x01\x00\x00\x00xq\x03h\x01h\x02\x85q\x04Rq\x05s\x85q\x06R0h\x05h\x02e.",
        b"\x80\x04\x95&\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x01m\x94\x8c\x01C\x94\x93\x94}\x94\x8c\x01x\x94h\x03h\x04\
          \x85\x94R\x94s\x85\x94R0h\x07h\x04e.",
    ),
    (
        "o = O(); k = K([o]); o.k = k; k",
        b"\x80\x02cm\nK\nq\x00]q\x01cm\nO\nq\x02)\x81q\x03}q\x04X\x01\x00\x00\x00kq\x05h\x00]q\x06h\x03a\x85q\x07Rq\x08\
          sba\x85q\x09R0h\x08.",
        b"\x80\x04\x952\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x94\x8c\x01K\x94\x93\x94]\x94h\x00\x8c\x01O\x94\x93\x94)\
          \x81\x94}\x94\x8c\x01k\x94h\x02]\x94h\x06a\x85\x94R\x94sba\x85\x94R0h\x0b.",
    ),
    (
        "x = O(); setter(x, [1]); [x, x]",
        b"\x80\x02]q\x00(cm\nO\nq\x01)Rq\x02cm\nsetter\nq\x03h\x02]q\x04K\x01a\x86R0h\x02e.",
        b"\x80\x04\x95+\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x01m\x94\x8c\x01O\x94\x93\x94)R\x94h\x01\
          \x8c\x06setter\x94\x93\x94h\x04]\x94K\x01a\x86R0h\x04e.",
    ),
];

fn inert(pickle: &[u8]) -> Checkpoint {
    LoadOptions::new().globals(Globals::inert()).from_bytes(pickle.to_vec()).unwrap()
}

fn holds(archive: &[u8], pickle: &[u8]) -> bool {
    archive.windows(pickle.len()).any(|part| part == pickle)
}

#[test]
fn objects_inside_themselves_are_written_as_cpython_writes_them() {
    for (what, two, four) in INSIDE_THEMSELVES {
        for pickle in [two, four] {
            let checkpoint = inert(pickle);
            let saved = SaveOptions::like(&checkpoint).unwrap().to_bytes(&checkpoint).unwrap();
            assert!(holds(&saved, pickle), "{what}: {pickle:?}");
        }
    }
    let (_, two, four) = INSIDE_THEMSELVES[0];
    assert!(
        holds(&SaveOptions::new().to_bytes(&inert(four)).unwrap(), two),
        "by a call instead of an opcode"
    );
}

#[test]
fn a_state_that_a_function_sets_is_a_state() {
    let (_, two, _) = INSIDE_THEMSELVES[4];
    let checkpoint = inert(two);
    let object = checkpoint.root().index(0).unwrap();
    assert_eq!(object.state().unwrap().to_string(), "[1]");
}

#[test]
fn what_no_protocol_2_pickle_can_say_is_refused_in_it() {
    // s = set(); s.add(C(s)): CPython's pickler recurses without end there.
    let checkpoint = inert(b"\x80\x04\x8f\x94(cm\nC\nh\x00\x85R\x90.");
    SaveOptions::new().protocol(4).unwrap().to_bytes(&checkpoint).unwrap();
    let error = SaveOptions::new().to_bytes(&checkpoint).expect_err("it is saved");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("protocol 4"), "{error}");
}
