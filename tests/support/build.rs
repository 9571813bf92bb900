//! Puts archives, streams and pickles together byte by byte, as no sane writer would.

#![allow(dead_code, reason = "each test binary takes what it needs")]

/// A record: its name below the root, and its content.
pub(crate) type Record<'r> = (&'r str, &'r [u8]);

/// Writes an archive of stored records, as PyTorch lays it out: zip64 records behind the directory.
pub(crate) fn archive(root: &str, records: &[Record<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in records {
        let name = format!("{root}/{name}");
        let at = u32::try_from(out.len()).unwrap();
        let (name_len, size) = (u16::try_from(name.len()).unwrap(), u32::try_from(content.len()).unwrap());
        let padding = (64 - (out.len() + 30 + name.len() + 4) % 64) % 64;
        out.extend(b"PK\x03\x04\0\0\0\x08\0\0\0\0\0\0");
        push_u32s(&mut out, &[0, size, size]);
        push_u16s(&mut out, &[name_len, u16::try_from(padding + 4).unwrap()]);
        out.extend(name.as_bytes());
        out.extend(b"FB");
        push_u16s(&mut out, &[u16::try_from(padding).unwrap()]);
        out.extend(std::iter::repeat_n(b'Z', padding));
        out.extend(*content);
        directory.extend(b"PK\x01\x02\0\0\0\0\0\x08\0\0\0\0\0\0");
        push_u32s(&mut directory, &[0, size, size]);
        push_u16s(&mut directory, &[name_len, 0, 0, 0, 0]);
        push_u32s(&mut directory, &[0, at]);
        directory.extend(name.as_bytes());
    }
    finish(out, &directory, u16::try_from(records.len()).unwrap())
}

fn finish(mut out: Vec<u8>, directory: &[u8], count: u16) -> Vec<u8> {
    let (start, size) = (u64::try_from(out.len()).unwrap(), u64::try_from(directory.len()).unwrap());
    out.extend(directory);
    let end64 = u64::try_from(out.len()).unwrap();
    out.extend(b"PK\x06\x06");
    out.extend(44_u64.to_le_bytes());
    push_u16s(&mut out, &[0x031E, 0x2D]);
    push_u32s(&mut out, &[0, 0]);
    for number in [u64::from(count), u64::from(count), size, start] {
        out.extend(number.to_le_bytes());
    }
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(end64.to_le_bytes());
    push_u32s(&mut out, &[1]);
    out.extend(b"PK\x05\x06");
    push_u16s(&mut out, &[0, 0, count, count]);
    push_u32s(&mut out, &[u32::try_from(size).unwrap(), u32::try_from(start).unwrap()]);
    push_u16s(&mut out, &[0]);
    out
}

fn push_u16s(out: &mut Vec<u8>, numbers: &[u16]) {
    numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
}

fn push_u32s(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
}

/// An archive around a pickle, with one storage `0` of 24 bytes: six float32 from 0 to 5.
pub(crate) fn around(pickle: &[u8]) -> Vec<u8> {
    let data: Vec<u8> = (0_u8..6).flat_map(|number| f32::from(number).to_le_bytes()).collect();
    archive(
        "archive",
        &[("data.pkl", pickle), ("byteorder", b"little"), ("data/0", &data), ("version", b"3\n")],
    )
}

/// A pickle of protocol 2 around the opcodes of its root.
pub(crate) fn pickle(root: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02", root.concat().as_slice(), b"."].concat()
}

/// Text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X", u32::try_from(text.len()).unwrap().to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// An integer of up to eight bytes.
pub(crate) fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08", number.to_le_bytes().as_slice()].concat()
}

/// A tuple of integers.
pub(crate) fn ints(numbers: &[i64]) -> Vec<u8> {
    [b"(", numbers.iter().flat_map(|&number| int(number)).collect::<Vec<_>>().as_slice(), b"t"].concat()
}

/// The persistent id of a storage of float32.
pub(crate) fn storage(key: &str, numel: i64) -> Vec<u8> {
    let (kind, key, cpu, numel) = (text("storage"), text(key), text("cpu"), int(numel));
    [b"(", kind.as_slice(), b"ctorch\nFloatStorage\n", &key, &cpu, &numel, b"tQ"].concat()
}

/// A call of `_rebuild_tensor_v2` on a storage.
pub(crate) fn tensor(storage: &[u8], offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    let (offset, shape, stride) = (int(offset), ints(shape), ints(stride));
    let hooks = b"\x89ccollections\nOrderedDict\n)R";
    [b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, &offset, &shape, &stride, hooks.as_slice(), b"tR"]
        .concat()
}

/// The pickle of `{"w": tensor}`, a tensor of shape (2, 3) over all of storage `0`.
pub(crate) fn good_pickle() -> Vec<u8> {
    dict_of("w", &tensor(&storage("0", 6), 0, &[2, 3], &[3, 1]))
}

/// The pickle of a dict with one entry.
pub(crate) fn dict_of(key: &str, value: &[u8]) -> Vec<u8> {
    pickle(&[b"}", &text(key), value, b"s"])
}

/// A call of a global on a tuple of arguments.
pub(crate) fn call(global: &str, args: &[&[u8]]) -> Vec<u8> {
    let (module, name) = global.rsplit_once('.').unwrap();
    [format!("c{module}\n{name}\n(").as_bytes(), args.concat().as_slice(), b"tR"].concat()
}

/// A storage of a stream: its key, the number of elements it claims, its bytes.
pub(crate) type Root<'r> = (&'r str, u64, &'r [u8]);

/// The pickle that a legacy stream begins with.
pub(crate) const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// A legacy stream around a pickle.
pub(crate) fn stream(object: &[u8], keys: &[&str], roots: &[Root<'_>]) -> Vec<u8> {
    let keys: Vec<u8> = keys.iter().flat_map(|key| text(key)).collect();
    let keys = pickle(&[b"](", &keys, b"e"]);
    let roots: Vec<u8> =
        roots.iter().flat_map(|(_, count, data)| [&count.to_le_bytes(), *data].concat()).collect();
    [MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", object, &keys, &roots].concat()
}
