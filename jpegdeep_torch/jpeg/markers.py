"""What a JPEG's markers say: ITU-T T.81, annex B, read as libjpeg reads them.

Whatever can be refused without decoding is refused here, before any reader or decoder is chosen: files that are no
JPEG, codings that nothing here reads, and pictures too large to decode.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from ..errors import JpegError
from .native import native_module
from .options import DEFAULT_OPTIONS, ReadOptions
from .orientation import exif_orientation, upright_size
from .signatures import describe_non_jpeg

_STANDALONE = {0x01, 0xD8, *range(0xD0, 0xD8)}  # markers without a length: TEM, SOI and RST0 to RST7
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # frame headers; C4, C8 and CC are DHT, JPG and DAC
_READABLE_SOF = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # sequential and progressive, by Huffman's or arithmetic coding
_SOS, _EOI, _DRI, _APP0, _APP1, _APP14 = 0xDA, 0xD9, 0xDD, 0xE0, 0xE1, 0xEE
_BELIEVED_MB = 64  # so little is allocated whatever the file's size: it may be the beginning of a picture
# Where it is not RGB's three: 'rgb' becomes floating-point coefficients, CMYK is Pillow's, with copies in between.
_PIXEL_BYTES = {"rgb": 24, "cmyk": 11, "ycck": 11}
_ADOBE_TRANSFORMS = {3: (0, 1), 4: (0, 2)}  # that libjpeg knows, by the number of components
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_MARKER_OF_SEGMENT = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # in entropy-coded data: no stuffing and no restart
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


@dataclass(frozen=True)
class JpegHeader:
    """What is known of a JPEG before its scans are decoded.

    height, width: in pixels, of the upright picture, or of the stored one with `ReadOptions(orientation="stored")`.
    precision: bits per sample.
    sampling: each component's (horizontal, vertical) factors, as stored.
    progressive, arithmetic: how it is coded.
    several_scans: whether its components, or the bits of their coefficients, come in more than one scan.
    colour: 'gray', 'ycbcr', 'rgb', 'cmyk' or 'ycck': what the components are.
    orientation: 1..8, how the stored picture is turned to the upright one; 1 with `orientation="stored"`.
    scan_start: the byte after the first scan's header.
    restart_intervals: the (first, end) bytes of the segments before that which say that there are restart markers.
    unusual: what libjpeg would warn of until there.
    """

    height: int
    width: int
    precision: int
    sampling: tuple[tuple[int, int], ...]
    progressive: bool
    arithmetic: bool
    several_scans: bool = False
    colour: str = "ycbcr"
    orientation: int = 1
    scan_start: int = field(default=0, compare=False)
    restart_intervals: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    unusual: tuple[str, ...] = field(default=(), compare=False)

    @property
    def components(self) -> int:
        return len(self.sampling)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the picture that readers and decoders give."""
        return self.height, self.width

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) as the file has it."""
        return upright_size(self.image_size, self.orientation)

    def blocks(self) -> int:
        """How many blocks of 8 x 8 coefficients it has, of all components."""
        widest, highest = (max(factors) for factors in zip(*self.sampling))
        height, width = self.stored_size
        return sum(-(-height * v // (8 * highest)) * -(-width * h // (8 * widest)) for h, v in self.sampling)

    def memory_needed(self) -> int:
        """Bytes that decoding holds, at most: of pixels, and of several scans all coefficients as well.

        Coefficients that come in one scan are resized row by row, which needs next to nothing; but the same files are
        to be read as coefficients and as pixels.
        """
        pixel_bytes = _PIXEL_BYTES.get(self.colour, 3)
        return pixel_bytes * self.height * self.width + (2 * 64 * self.blocks() if self.several_scans else 0)


def parse_header(data: bytes, name: object = "<bytes>", options: ReadOptions = DEFAULT_OPTIONS) -> JpegHeader:
    """The markers up to the first scan.

    Raises:
        JpegError: `data` is no JPEG, has no picture in it, is of a kind that cannot be read, or larger than allowed.
    """
    return _ordinary_header(data, options) or _any_header(data, name, options)


def _ordinary_header(data: bytes, options: ReadOptions) -> JpegHeader | None:
    """What `_any_header` says, in a tenth of its time; None where the native part finds anything unusual.

    Without the segments that state restart intervals: they are of no interest where there are restart markers.
    """
    native = native_module()
    found = None if native is None else native.ordinary_header(data)
    if found is None:
        return None
    stored_size, ids, sampling, progressive, several_scans, jfif, adobe, exif, scan_start = found
    orientation = 1 if exif is None or options.orientation == "stored" else exif_orientation(exif)
    header = JpegHeader(
        *upright_size(stored_size, orientation),
        8,
        sampling,
        progressive,
        False,
        several_scans,
        _colour(ids, jfif, adobe),
        orientation,
        scan_start,
    )
    return None if header.memory_needed() / 1e6 > min(options.max_memory_mb, _BELIEVED_MB) else header


def _any_header(data: bytes, name: object, options: ReadOptions) -> JpegHeader:
    """`parse_header`, whatever the file."""
    if data[:2] != b"\xff\xd8":
        raise JpegError(name, describe_non_jpeg(data))
    frame: tuple | None = None
    scan: bytes | None = None
    adobe: int | None = None
    frame_marker, jfif, orientation = 0, False, 1
    position, restart_intervals, unusual = 2, [], []
    has_exif = False
    while scan is None:
        found = _MARKER.search(data, position)
        if found is None:
            raise JpegError(
                name, f"truncated after {len(data)} bytes: no {'frame' if frame is None else 'scan'} header"
            )
        marker = found[1][0]
        between = data[position : found.start()]
        if between.strip(b"\xff"):
            unusual.append(f"Corrupt JPEG data: {len(between)} extraneous bytes before marker 0x{marker:02x}")
        position = found.end()
        if marker == _EOI:
            raise JpegError(name, "no image in it: " + ("no frame header" if frame is None else "no scan"))
        if marker in _STANDALONE:
            continue
        if position + 2 > len(data):
            raise JpegError(name, f"truncated after {len(data)} bytes: in a marker segment")
        (length,) = struct.unpack_from(">H", data, position)
        if length < 2 or position + length > len(data):
            raise JpegError(name, f"truncated or damaged: segment ff{marker:02x} of {length} bytes at byte {position}")
        segment = data[position + 2 : position + length]
        if marker in _SOF:
            if frame is not None:
                raise JpegError(name, "damaged: two frame headers")
            frame, frame_marker = _parse_frame(segment, marker, name), marker
        elif marker == _SOS:
            scan = segment
        elif marker == _DRI:
            restart_intervals.append((found.start(), position + length))
        elif marker == _APP0 and segment[:5] == b"JFIF\x00" and len(segment) >= 14:
            jfif = True
            if segment[5] != 1:
                unusual.append(f"Warning: unknown JFIF revision number {segment[5]}.{segment[6]:02d}")
        elif marker == _APP14 and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif marker == _APP1 and not has_exif and segment[:6] == b"Exif\x00\x00":
            has_exif, orientation = True, exif_orientation(segment)
        position += length
    if frame is None:
        raise JpegError(name, "no image in it: no frame header before its scan")
    precision, height, width, ids, sampling = frame
    if options.orientation == "stored":
        orientation = 1
    progressive = frame_marker in (0xC2, 0xCA)
    if adobe is not None and adobe not in _ADOBE_TRANSFORMS.get(len(sampling), (adobe,)) and not jfif:
        unusual.append(f"Unknown Adobe color transform code {adobe}")
    if not progressive and scan[-3:] != b"\x00\x3f\x00":
        unusual.append("Invalid SOS parameters for sequential JPEG")
    header = JpegHeader(
        *upright_size((height, width), orientation),
        precision,
        sampling,
        progressive,
        frame_marker >= 0xC9,
        several_scans=progressive or scan[:1] != bytes([len(sampling)]),
        colour=_colour(ids, jfif, adobe),
        orientation=orientation,
        scan_start=position,
        restart_intervals=tuple(restart_intervals),
        unusual=tuple(unusual),
    )
    _check_readable(header, frame_marker, len(data), name, options)
    return header


def find_end(data: bytes, header: JpegHeader) -> int | None:
    """Where the picture's end-of-image marker begins, from marker to marker, or None where there is none.

    What lies behind it, another picture or a film, is not looked at.
    """
    position = header.scan_start
    while (found := _MARKER_OF_SEGMENT.search(data, position)) is not None:
        position = found.end()
        if found[1][0] == _EOI:
            return found.start()
        if found[1][0] not in _STANDALONE and position + 2 <= len(data):
            position += struct.unpack_from(">H", data, position)[0]
    return None


def has_restart_markers(data: bytes, header: JpegHeader) -> bool:
    """Whether there is one between the first scan's header and the end."""
    end = find_end(data, header)
    return _RESTART.search(data, header.scan_start, len(data) if end is None else end) is not None


def _parse_frame(segment: bytes, marker: int, name: object):
    """(bits, height, width, the components' ids, their sampling factors)."""
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        raise JpegError(name, "damaged: frame header cut short")
    precision, height, width, count = struct.unpack_from(">BHHB", segment)
    if not height or not width:
        raise JpegError(name, f"damaged: an image of {width}x{height} pixels")
    ids = tuple(segment[6 + 3 * i] for i in range(count))
    sampling = tuple((segment[7 + 3 * i] >> 4, segment[7 + 3 * i] & 15) for i in range(count))
    if not count or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in sampling):
        raise JpegError(name, f"damaged: sampling factors {sampling}")
    return precision, height, width, ids, sampling


def _colour(ids: tuple[int, ...], jfif: bool, adobe: int | None) -> str:
    """What libjpeg takes the components for (jdapimin.c, default_decompress_parms)."""
    if len(ids) == 1:
        return "gray"
    if len(ids) == 3:
        if jfif:
            return "ycbcr"
        if adobe is not None:
            return "rgb" if adobe == 0 else "ycbcr"
        return "rgb" if ids == (0x52, 0x47, 0x42) else "ycbcr"
    return "ycck" if adobe is not None and adobe != 0 else "cmyk"


def _check_readable(header: JpegHeader, frame_marker: int, size: int, name: object, options: ReadOptions) -> None:
    """Raises JpegError for what neither coefficients nor pixels are read of."""
    if header.precision != 8:
        raise JpegError(name, f"{header.precision} bits per sample; only 8 are supported")
    if frame_marker not in _READABLE_SOF:
        raise JpegError(name, f"lossless or hierarchical (frame header ff{frame_marker:02x}); neither is supported")
    if header.components not in (1, 3, 4):
        raise JpegError(
            name, f"{header.components} components; only 1 (gray), 3 (YCbCr, RGB) and 4 (CMYK) are supported"
        )
    if options.on_damage == "strict" and header.components == 4:
        raise JpegError(name, f"a {header.colour.upper()} JPEG (4 components), which strict reading refuses")
    largest = tuple(max(factors) for factors in zip(*header.sampling))
    if not all(whole / own in (1, 2, 4) for factors in header.sampling for whole, own in zip(largest, factors)):
        raise JpegError(name, f"sampling factors {header.sampling}, whose ratios are not all 1, 2 or 4")
    height, width = header.stored_size
    needed_mb = header.memory_needed() / 1e6
    if needed_mb > options.max_memory_mb:
        raise JpegError(
            name,
            f"{width} x {height} pixels{' in several scans' if header.several_scans else ''} take {needed_mb:.0f} MB "
            f"to decode, more than the limit of {options.max_memory_mb:g} MB",
        )
    # A Huffman-coded block takes at least one bit for its DC, and in a sequential file one to end: what a header of a
    # large picture merely promises is not allocated.
    bits = header.blocks() * (1 if header.progressive else 2)
    if needed_mb > _BELIEVED_MB and not header.arithmetic and 8 * size < bits:
        raise JpegError(name, f"{size} bytes are too few for an image of {width} x {height} pixels")
