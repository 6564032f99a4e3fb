//! Images and labels from a parquet file of the hub.
//!
//! Read by column, because the row reader of candle-datasets skips damaged rows and transposes every image.

use std::path::Path;

use ::parquet::column::reader::get_typed_column_reader;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::name::{DatasetName, Labels};
use crate::source::picture;
use crate::split::{IMAGE, SIDE, Split};

/// Column of the PNG files: field `bytes` of the group `img`.
const PICTURES: &str = "img.bytes";

/// Columns of the labels, fine labels first.
fn label_columns(name: DatasetName) -> &'static [(Labels, &'static str)] {
    match name {
        DatasetName::Cifar100 => &[(Labels::Fine, "fine_label"), (Labels::Coarse, "coarse_label")],
        _ => &[(Labels::Fine, "label")],
    }
}

/// Decodes every image and checks every label of the file at `path`. `remedy` says what to do if it is damaged.
pub(crate) fn read(name: DatasetName, file: Bytes, path: &Path, remedy: &str) -> Result<Split> {
    let damaged = |reason: String| Error::Parquet { file: path.to_owned(), reason, remedy: remedy.to_owned() };
    let reader = SerializedFileReader::new(file).map_err(|error| damaged(error.to_string()))?;
    let columns = label_columns(name);
    let mut images = Vec::new();
    let mut labels = vec![Vec::new(); columns.len()];
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(|error| damaged(error.to_string()))?;
        let first_row = images.len() / IMAGE;
        for (i, png) in column::<ByteArrayType>(&*group, PICTURES).map_err(damaged)?.iter().enumerate() {
            push_image(png, &mut images).map_err(|reason| Error::Picture {
                file: path.to_owned(),
                row: first_row + i,
                reason,
                remedy: remedy.to_owned(),
            })?;
        }
        for (&(kind, title), labels) in columns.iter().zip(&mut labels) {
            let classes = name.class_names(kind).map_or(0, <[_]>::len);
            for found in column::<Int64Type>(&*group, title).map_err(damaged)? {
                let label = u8::try_from(found).ok().filter(|&label| usize::from(label) < classes);
                labels.push(label.map(u16::from).ok_or_else(|| Error::Label {
                    file: path.to_owned(),
                    record: labels.len(),
                    kind,
                    found,
                    last: classes - 1,
                    remedy: remedy.to_owned(),
                })?);
            }
        }
    }
    let mut labels = labels.into_iter();
    Split::new(images, labels.next().unwrap_or_default(), labels.next())
}

fn push_image(png: &ByteArray, images: &mut Vec<u8>) -> Result<(), String> {
    let pixels = picture::decode(png.data(), SIDE, SIDE)?;
    convnn_image::push_planes(pixels.chunks_exact(3 * SIDE), images);
    Ok(())
}

/// All values of a column, one per row of the group.
fn column<T: DataType>(group: &dyn RowGroupReader, title: &str) -> Result<Vec<T::T>, String> {
    let schema = group.metadata().schema_descr_ptr();
    let titles: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let index = titles.iter().position(|found| found == title);
    let index = index.ok_or_else(|| format!("no column {title}, only {}", titles.join(", ")))?;
    let found = schema.column(index).physical_type();
    let expected = T::get_physical_type();
    if found != expected {
        return Err(format!("column {title} holds {found}, expected {expected}"));
    }
    let rows = usize::try_from(group.metadata().num_rows()).map_err(|error| error.to_string())?;
    let read = || -> Result<_, ParquetError> {
        let mut values = Vec::new();
        let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
        let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
        reader.read_records(rows, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        Ok(values)
    };
    let values = read().map_err(|error| format!("column {title}: {error}"))?;
    if values.len() != rows {
        return Err(format!("column {title} holds {} of {rows} values", values.len()));
    }
    Ok(values)
}
