import numpy as np

from models.dataset import Row, group_concepts, training_rows
from models.sampling import draw, step_generator


def rows() -> list[Row]:
    made = []
    for number in range(30):
        for brand in ("a", "b", "c")[: 1 + number % 3]:
            tags = ("shared",) if number < 5 else (f"tag {number}",)
            made.append(
                Row(f"{brand}:{number:02}", f"Title {number}", "", brand, f"c{number:02}", f"s{number // 6}", tags, ())
            )
    return sorted(made, key=lambda row: row.item_id)


def test_both_pictures_are_of_the_concept_and_of_two_brands_where_there_are_two():
    given = rows()
    data = group_concepts(given)
    drawn = draw(data, 20, 0.5, step_generator(0, 0))
    assert len(set(drawn.concepts.tolist())) == 20 and len(drawn.pictures) == 40
    for place, concept in enumerate(drawn.concepts):
        first, second = given[drawn.pictures[place]], given[drawn.pictures[20 + place]]
        assert first.concept == second.concept == data.names[concept]
        assert (first.brand != second.brand) == (len(data.members[concept]) > 1)


def test_a_text_that_is_true_of_another_concept_is_no_negative():
    data = group_concepts(rows())
    for step in range(20):
        drawn = draw(data, 30, 0.0, step_generator(0, step))
        for i, concept in enumerate(drawn.concepts):
            for j, text in enumerate(drawn.texts):
                true = text == f"Title {int(data.names[concept][1:])}" or text in data.words[concept]
                assert bool(drawn.not_negative[i, j]) == true


def test_neighbours_come_as_whole_subgroups():
    data = group_concepts(rows())
    drawn = draw(data, 12, 1.0, step_generator(0, 1))
    assert len({int(data.names[concept][1:]) // 6 for concept in drawn.concepts}) == 2


def test_a_step_draws_the_same_again_and_another_step_does_not():
    data = group_concepts(rows())
    first, again, other = (draw(data, 10, 0.5, step_generator(7, step)) for step in (3, 3, 4))
    assert np.array_equal(first.pictures, again.pictures) and first.texts == again.texts
    assert not np.array_equal(first.pictures, other.pictures)


def test_held_out_concepts_and_other_brands_are_left_out():
    kept = training_rows(rows(), {"a", "b"}, {"c00", "c05"})
    assert {row.brand for row in kept} == {"a", "b"}
    assert not {"c00", "c05"} & {row.concept for row in kept}
