//! Small parquet files in the schema of the hub: PNG images in a group, labels as 64-bit integers, all optional.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Side of an image.
const SIDE: usize = 32;

/// One row: the PNG file (absent for `None`) and its labels.
pub type Row = (Option<Vec<u8>>, Vec<i64>);

/// Writes rows, two per row group, with label columns of these names.
pub fn parquet(labels: &[&str], rows: &[Row]) -> Vec<u8> {
    let labels: String = labels.iter().map(|label| format!("optional int64 {label};")).collect();
    let schema = format!(
        "message schema {{ optional group img {{ optional binary bytes; optional binary path (utf8); }} {labels} }}"
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(2) {
        let mut group = writer.next_row_group().unwrap();
        for field in [0, 1] {
            // Definition level 2 is a field, 1 a group without it.
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            for (i, (png, _)) in rows.iter().enumerate() {
                levels.push(if png.is_some() { 2 } else { 1 });
                let Some(png) = png else { continue };
                let path = || format!("{i}.png").into_bytes();
                values.push(ByteArray::from(if field == 0 { png.clone() } else { path() }));
            }
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        let mut label = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            let values: Vec<i64> = rows.iter().map(|(_, labels)| labels[label]).collect();
            let levels = vec![1; rows.len()];
            column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
            label += 1;
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// A PNG file of an image (3, 32, 32).
pub fn png(image: &[u8]) -> Vec<u8> {
    let pixels: Vec<u8> = (0..3 * SIDE * SIDE).map(|i| image[i % 3 * SIDE * SIDE + i / 3]).collect();
    encode(SIDE as u32, SIDE as u32, &pixels)
}

/// A PNG file of RGB pixels, (height, width, 3).
pub fn encode(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    png
}
