"""Any text is either read as regions or refused with what is wrong."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np

from safety import regions

MANY = settings(max_examples=100, deadline=None)
# Half precision: float32 squares what is nearer than 1e-19 to nothing.
NUMBERS = st.floats(-100, 100, allow_nan=False, width=16)
BOXES = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
                 min_size=1, max_size=4)


def as_text(boxes):
  return ';'.join(f'{a},{b}:{c},{d}' for a, b, c, d in boxes)


@MANY
@given(boxes=BOXES, spaces=st.sampled_from(['', ' ', '\t']))
def test_what_is_written_is_read(boxes, spaces):
  ordered = [(min(a, c), min(b, d), max(a, c), max(b, d))
             for a, b, c, d in boxes]
  text = as_text(ordered).replace(',', f'{spaces},{spaces}')
  read = regions.parse_region_bounds(text)
  assert read == tuple(regions.Box(box[:2], box[2:]) for box in ordered)


@MANY
@given(text=st.text(alphabet='0123456789.,:;-+einfax ', max_size=30))
def test_any_text_is_read_or_refused(text):
  try:
    read = regions.parse_region_bounds(text)
  except ValueError as e:
    assert text in str(e) and regions.FORMAT in str(e)
    return
  if text.strip():
    assert len(read) == text.count(';') + 1
  for box in read:
    assert len(box.lower) == len(box.upper) == 2
    assert np.isfinite(box.lower + box.upper).all()
    assert all(lo <= hi for lo, hi in zip(box.lower, box.upper))


@MANY
@given(boxes=BOXES, broken=st.integers(0, 3), how=st.sampled_from([
    '1,2', '1,2:3', 'a,2:3,4', '3,3:1,1', '0,0:nan,1', '0,0:inf,1', '']))
def test_every_broken_box_is_named(boxes, broken, how):
  parts = as_text([(min(a, c), min(b, d), max(a, c), max(b, d))
                   for a, b, c, d in boxes]).split(';')
  parts.insert(min(broken, len(parts)), how)
  try:
    regions.parse_region_bounds(';'.join(parts))
  except ValueError as e:
    # One problem a broken box, none of the others.
    assert str(e).count('; ') == 0 or how == 'a,2:3,4', str(e)
  else:
    raise AssertionError(f'{how} was taken')


@MANY
@given(boxes=BOXES, point=st.tuples(NUMBERS, NUMBERS))
def test_inside_is_where_the_distance_is_not_positive(boxes, point):
  read = tuple(regions.Box((min(a, c), min(b, d)), (max(a, c), max(b, d)))
               for a, b, c, d in boxes)
  inside = bool(regions.contains(read, np.array(point), np))
  assert inside == (float(regions.distance(read, np.array(point), np)) <= 0)
