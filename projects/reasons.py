"""Why a file was refused, skipped or changed: a stable code and a sentence that says what to do."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

MESSAGES = {
    # Refused
    "empty": _("This file is empty. Upload it again from where it is complete."),
    "too_large": _("This file is larger than %(limit)s. Make it smaller and upload it again."),
    "not_a_picture": _(
        "This is not a picture, whatever its name says. Use JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF."
    ),
    "video": _("This is a video. Save single frames as pictures and upload those."),
    "unsupported_archive": _("Only zip archives can be opened. Unpack it and upload a zip or the pictures."),
    "unsupported_picture": _("This kind of picture cannot be read. Save it as JPEG or PNG and upload that."),
    "damaged": _("This picture is damaged or not complete. Export it again and upload the new file."),
    "too_many_pixels": _(
        "This picture has %(megapixels)s megapixels; at most %(limit)s can be read. Make it smaller."
    ),
    "too_small": _(
        "This picture is %(width)s × %(height)s; the shorter side needs %(limit)s pixels or more."
    ),
    "dataset_full": _("A dataset holds at most %(limit)s pictures. Start another dataset for the rest."),
    # A zip as a whole
    "damaged_zip": _("This zip is damaged or not complete. Make it again and upload the new file."),
    "too_many_files": _("This zip has more than %(limit)s files. Split it into several."),
    "zip_bomb": _(
        "This zip would unpack to far more than pictures need. Zip only the pictures and captions."
    ),
    "no_pictures": _("There is no picture in this zip. Zip the folder with the pictures and upload that."),
    # One entry of a zip
    "encrypted": _("This file is locked with a password. Make the zip without one."),
    "unsafe_name": _("The name of this file points outside the zip. Make the zip again from a plain folder."),
    "symlink": _("This is a link to another file, not a picture. Put the picture itself into the zip."),
    "nested_archive": _("A zip inside a zip is not opened. Unpack it first, or upload it on its own."),
    "name_twice": _("The zip has two files of this name; only the first was read."),
    # Captions
    "bad_caption": _("This caption is not plain text. Save it as UTF-8 text."),
    "caption_too_long": _("This caption is longer than %(limit)s characters. Shorten it."),
    "bad_table": _(
        "This table cannot be read. It needs a column file_name and a column text, one picture a row."
    ),
    "caption_waiting": _("The caption waits for a picture of the same name."),
    "caption_applied": _("The caption was put beside its picture."),
    "captions_applied": _("Captions for %(count)s pictures were read."),
    # Skipped
    "hidden_file": _("A hidden or system file; it was left out."),
    "not_needed": _("Not a picture and not a caption; it was left out."),
    "duplicate": _("The same picture is in this dataset already."),
    # Added, with a remark
    "animated_first_frame": _("Animated: only the first frame was taken."),
    "small": _("Small: %(width)s × %(height)s. Larger pictures train better."),
    "failed": _("This file could not be processed. Upload it again; if it fails again, tell the operator."),
}


class Refusal(Exception):
    """Say why a file cannot be used: a code of `MESSAGES` and the numbers its sentence needs."""

    def __init__(self, code: str, **values: object) -> None:
        super().__init__(code)
        self.code = code
        self.values = values

    @property
    def message(self) -> str:
        return explain(self.code, **self.values)


def explain(code: str, **values: object) -> str:
    """Return the sentence for `code` in the language in force."""
    sentence = str(MESSAGES[code])
    return sentence % values if values else sentence


def retell(code: str, message: str) -> str:
    """Return a stored sentence in the language in force, where it needs no numbers that were not stored."""
    sentence = MESSAGES.get(code)
    return message if sentence is None or "%(" in str(sentence) else str(sentence)
