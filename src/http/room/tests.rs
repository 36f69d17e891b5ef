//! What rooms promise, however large they are and whoever had their memory before.

use memmap2::MmapMut;

use super::*;

const MIB: usize = 1 << 20;

/// A pool of the test alone. It stays for as long as the process: rooms may outlive the test.
fn pool(kept_max: usize) -> &'static Pool {
    Box::leak(Box::new(Pool::new(kept_max, MmapMut::map_anon)))
}

/// The largest mapping of a kernel that refuses more.
const LARGEST: usize = 2 * MIB;

/// A pool on that kernel.
fn refusing_pool() -> &'static Pool {
    Box::leak(Box::new(Pool::new(usize::MAX, |bytes| match bytes {
        ..=LARGEST => MmapMut::map_anon(bytes),
        _ => Err(std::io::ErrorKind::OutOfMemory.into()),
    })))
}

fn is_mapped(room: &Room) -> bool {
    matches!(room.memory, Memory::Mapped { .. })
}

/// Bytes that differ from place to place.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(bytes).collect()
}

#[test]
fn what_is_written_is_there_however_wide_the_room_was() {
    for width in [0, 1, 100, ASIDE_BYTES_MIN, 3 * ASIDE_BYTES_MIN] {
        let mut room = Room::new(width);
        let mut expected = Vec::new();
        for byte in 0..=255_u8 {
            room.push(byte);
            room.extend(&[byte; 7_000]);
            expected.push(byte);
            expected.extend([byte; 7_000]);
        }
        assert!(room.written() == expected, "{width}");
        room.truncate(5);
        room.fill(2, |room| room.copy_from_slice(b"ab"));
        assert_eq!(room.into_bytes(), [0, 0, 0, 0, 0, b'a', b'b'][..]);
    }
}

#[test]
fn a_large_room_does_not_move_and_may_go_in_parts() {
    let mut room = Room::new(8 << 20);
    room.extend(&vec![7; 4 << 20]);
    let at = room.written().as_ptr();
    room.extend(&vec![8; 4 << 20]);
    assert_eq!((room.written().as_ptr(), room.capacity()), (at, 8 << 20));
    let bytes = room.into_bytes();
    let part = bytes.slice((4 << 20) - 1..);
    drop(bytes);
    assert_eq!(part.get(..2), Some(&[7, 8][..]));
    assert_eq!(part.as_ptr(), at.wrapping_add((4 << 20) - 1));
}

#[test]
fn what_grows_moves_from_the_heap_to_larger_and_larger_mappings() {
    for pool in [pool(usize::MAX), refusing_pool()] {
        let expected = pattern(9 * MIB + 17);
        let mut room = Room::of(pool, 0);
        let mut capacities = vec![];
        for piece in expected.chunks(100_003) {
            room.extend(piece);
            if is_mapped(&room) && capacities.last() != Some(&room.capacity()) {
                capacities.push(room.capacity());
            }
        }
        assert!(room.written() == expected);
        match pool.take(2 * LARGEST) {
            Some(_) => assert_eq!(capacities, [2, 4, 8, 16].map(|it| it * MIB)),
            None => assert_eq!(capacities, [LARGEST], "and then the heap again"),
        }
        assert!(room.into_bytes() == expected);
    }
}

#[test]
fn small_rooms_stay_on_the_heap() {
    let mut room = Room::of(pool(usize::MAX), ASIDE_BYTES_MIN - 1);
    room.extend(&pattern(ASIDE_BYTES_MIN - 1));
    assert!(!is_mapped(&room));
    room.push(1);
    assert!(is_mapped(&room));
    assert!(is_mapped(&Room::of(pool(usize::MAX), ASIDE_BYTES_MIN)));
}

#[test]
fn a_room_that_the_kernel_refuses_grows_on_the_heap() {
    let mut room = Room::new(usize::MAX / 2);
    assert_eq!(room.capacity(), 0);
    room.extend(b"some");
    room.widen(usize::MAX / 2);
    assert_eq!(room.written(), b"some");

    let mut room = Room::of(refusing_pool(), 2 * LARGEST);
    let expected = pattern(5 * MIB);
    let mut moves = 0;
    for piece in expected.chunks(1_000) {
        let before = room.capacity();
        room.widen(100 * MIB);
        room.extend(piece);
        moves += usize::from(room.capacity() != before);
    }
    assert!(moves < 30, "each time it is twice as large: {moves}");
    assert!(!is_mapped(&room));
    room.fill(3, |room| room.copy_from_slice(b"end"));
    room.truncate(expected.len() + 1);
    let bytes = room.into_bytes();
    assert!(bytes.strip_suffix(b"e") == Some(&expected[..]));
}

#[test]
fn the_memory_of_a_room_is_that_of_the_next_one() {
    let pool = pool(16 * MIB);
    let mut first = Room::of(pool, 3 * MIB);
    first.extend(&pattern(2 * MIB));
    let at = first.written().as_ptr();
    let bytes = first.into_bytes();
    let part = bytes.slice(100..200);
    drop(bytes);
    assert_eq!(pool.kept(), 0, "a part of it is still there");
    drop(part);
    assert_eq!(pool.kept(), 2 * MIB);

    let mut second = Room::of(pool, 4 * MIB);
    assert_eq!(second.written().as_ptr(), at);
    second.extend(&pattern(10));
    assert!(pool.kept() > MIB, "what it does not use yet counts");
    second.extend(&pattern(2 * MIB));
    assert_eq!(pool.kept(), 0);
    // What turned out to be short does not keep it.
    second.truncate(5);
    let short = second.into_bytes();
    assert_eq!(short, pattern(5));
    let third = Room::of(pool, 4 * MIB);
    assert_eq!(third.written().as_ptr(), at);
}

#[test]
fn what_an_earlier_room_held_is_never_seen_in_a_later_one() {
    const SECRET: u8 = 0xaa;
    let held_before = || {
        let pool = pool(64 * MIB);
        let mut room = Room::of(pool, 4 * MIB);
        room.extend(&vec![SECRET; 3 * MIB]);
        let at = room.written().as_ptr();
        drop(room);
        let room = Room::of(pool, 4 * MIB);
        assert_eq!(room.written().as_ptr(), at, "the same memory");
        room
    };
    let is_clean = |bytes: &[u8]| !bytes.contains(&SECRET);

    let mut room = held_before();
    assert!(room.written().is_empty() && room.written_mut().is_empty());
    assert!(room.as_ref().is_empty());
    assert!(held_before().into_bytes().is_empty());

    // What is given away to be written, here and behind what was ever written.
    room.push(1);
    room.fill(MIB, |given| assert!(given.len() == MIB && is_clean(given)));
    room.fill(3 * MIB - 1, |given| assert!(is_clean(given)));
    assert!(is_clean(room.written()) && is_clean(room.written_mut()));

    // What it writes and takes back itself comes back as zero as well.
    room.truncate(1);
    room.extend(&[SECRET; 100]);
    room.truncate(1);
    room.fill(200, |given| assert!(is_clean(given)));

    // When it moves to more room, and that was somebody's as well.
    let mut larger = Room::of(room.pool, 8 * MIB);
    larger.extend(&vec![SECRET; 7 * MIB]);
    let at = larger.written().as_ptr();
    drop(larger);
    room.truncate(100);
    room.widen(8 * MIB);
    assert_eq!((room.len(), room.written().as_ptr()), (100, at));
    assert!(is_clean(room.written()) && is_clean(room.written_mut()));
    room.fill(5 * MIB, |_| ());
    assert!(is_clean(&room.into_bytes()));

    let mut room = held_before();
    room.extend(&vec![1; MIB]);
    assert!(is_clean(&room.into_bytes()));
}

#[test]
fn what_is_not_kept_goes_and_the_rest_goes_in_time() {
    let pool = pool(2 * MIB);
    let rooms: Vec<_> = (0..4)
        .map(|_| {
            let mut room = Room::of(pool, MIB);
            room.extend(&vec![1; MIB]);
            room
        })
        .collect();
    drop(rooms);
    assert_eq!(pool.kept(), 2 * MIB);
    assert_eq!(LEAVING.get(), 0, "outside a task it is gone at once");
    let later = rt::now().after(Duration::from_secs(2));
    assert_eq!(pool.take_idle(later).len(), 2);
    assert_eq!(pool.kept(), 0);
}
