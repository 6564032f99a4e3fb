//! Expected values are from Pillow 13.0: `Image.resize((s, s), Image.BILINEAR)`, which torchvision's `Resize` calls.

use super::*;
use md5::{Digest, Md5};

/// The first test image of CIFAR-10.
const CAT: &[u8] = include_bytes!("../../tests/golden/first_test_image.bin");

fn resize(image: &[u8], from: usize, to: usize) -> Vec<u8> {
    let mut resized = vec![0; 3 * to * to];
    Resizer::new(from, to).resize(image, &mut resized);
    resized
}

/// A 4×4 image of three planes: an uneven pattern, its negative, its transpose.
fn pattern() -> Vec<u8> {
    let plane = [0, 255, 10, 90, 200, 3, 77, 128, 255, 255, 0, 0, 17, 34, 68, 136];
    let negative = plane.map(|pixel| 255 - pixel);
    let transpose = std::array::from_fn::<u8, 16, _>(|i| plane[i % 4 * 4 + i / 4]);
    [plane, negative, transpose].concat()
}

#[test]
fn enlarging_interpolates_as_pillow_does() {
    #[rustfmt::skip]
    let expected = [
        0, 91, 237, 133, 16, 61, 90, 71, 105, 158, 100, 39, 79, 104, 186, 127, 33, 47, 76, 107, 125,
        228, 193, 136, 84, 41, 55, 64, 238, 238, 239, 123, 5, 8, 10, 102, 106, 112, 79, 47, 72, 87,
        17, 23, 33, 51, 73, 112, 136,
        255, 164, 18, 123, 239, 194, 165, 184, 150, 97, 156, 216, 176, 151, 69, 128, 222, 208, 179, 148, 130,
        28, 63, 119, 172, 215, 200, 191, 17, 17, 16, 133, 250, 247, 245, 153, 149, 143, 177, 208, 183, 168,
        238, 232, 222, 204, 182, 143, 119,
        0, 71, 186, 228, 238, 102, 17, 91, 105, 127, 193, 238, 106, 23, 237, 158, 33, 136, 239, 112, 33,
        133, 100, 47, 84, 122, 79, 51, 16, 39, 76, 41, 5, 47, 73, 61, 79, 106, 55, 8, 72, 112,
        90, 104, 125, 64, 10, 87, 136,
    ];
    assert_eq!(resize(&pattern(), 4, 7), expected);
}

#[test]
fn shrinking_averages_as_pillow_does() {
    #[rustfmt::skip]
    let expected = [
        95, 105, 80, 198, 84, 57, 92, 74, 81,
        160, 151, 175, 57, 172, 199, 163, 181, 174,
        96, 198, 92, 105, 84, 74, 80, 57, 81,
    ];
    assert_eq!(resize(&pattern(), 4, 3), expected);
}

#[test]
fn a_cifar_image_of_any_size_has_the_bytes_of_pillow() {
    for (size, expected) in [
        (224, "c51f7f3bd9c8b789b5abe28063a156dc"),
        (64, "09f05a419cc93f3ed56af1a0d7e1d742"),
        (48, "1ecfbc495daa07b8d3ce54a9610b0bb1"),
        (33, "969ab5c2651ff60f8c15e9a492d34585"),
        (31, "7a9cb03138011870387892976ecccc54"),
        (20, "01a32100802dcf1c61b2e8892a69e209"),
        (16, "bb6c8484c43e993f538964be3b53f61f"),
        (7, "02238255039c855f01c5ef5f94827e3f"),
        (1, "050a59867e5a20f021b4bb083d517818"),
    ] {
        let resized = resize(CAT, 32, size);
        let sum: String = Md5::digest(&resized).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, expected, "{size}×{size}: {:?}…", &resized[..3]);
    }
}

#[test]
fn the_same_size_changes_nothing() {
    assert_eq!(resize(CAT, 32, 32), CAT);
}

#[test]
fn white_stays_white() {
    assert_eq!(resize(&[255; 3 * 32 * 32], 32, 224), vec![255; 3 * 224 * 224]);
}

#[test]
fn planes_keep_rows_and_columns() {
    // Two rows of two pixels: (1 2 3)(4 5 6) over (7 8 9)(10 11 12).
    let pixels: Vec<u8> = (1..=12).collect();
    let mut planes = Vec::new();
    push_planes(pixels.chunks_exact(6), &mut planes);
    assert_eq!(planes, [1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12]);
}
