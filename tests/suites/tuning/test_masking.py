"""Secrets in URLs, with SQLAlchemy's own parsing as the judge of what a password is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from suites.tuning.masking import masked, masked_argument, masked_url

LETTERS = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20
)
SECRET = LETTERS.map(lambda text: f"s3cr3t{text}")


@given(
    user=LETTERS, password=SECRET, token=SECRET, key=st.sampled_from(["password", "sslpassword", "authToken"])
)
def test_no_secret_of_a_well_formed_url_is_left_and_all_else_is(user, password, token, key):
    url = URL.create(
        "postgresql", user, password, "host", 5432, "name", query={key: token, "sslmode": "require"}
    )
    shown = masked_url(url.render_as_string(hide_password=False))
    assert "s3cr3t" not in shown
    assert make_url(shown) == url.set(password="***", query={key: "***", "sslmode": "require"})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@host/x",
        "postgresql://me:p@s3cret@host/x",  # an @ that should have been written %40
        "postgresql://me:p/s3cret?s3cret@host/x",
        "postgresql+psycopg://:s3cret@host/x",
        "mysql://me:s3cret@[::1]:3306/x?ssl_ca=/ca.pem",
        "sqlite:///t.db?user=me&password=s3cret",
        "postgresql:///x?host=h&PASSWORD=s3cret",
        "postgresql:///x?pass%77ord=s3cret",
        "postgresql://h/x?sslmode=require&sslpassword=s3cret",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3Ds3cret",
        "mssql+pyodbc:///?odbc_connect=DRIVER=x;UID=me;PWD=s3cret",
        "https://host/x?X-Amz-Signature=s3cret&X-Amz-Date=1",
        "https://host/x?api_key=s3cret#part",
    ],
)
def test_a_secret_is_hidden_wherever_it_may_stand(url):
    for shown in (
        masked_url(url),
        masked_argument(url),
        masked_argument(f"--storage={url}"),
        masked(f"the URL '{url}' is wrong"),
    ):
        assert "s3cret" not in shown
        assert "***" in shown


def test_a_driver_s_words_do_not_repeat_the_secret():
    url = "postgresql://me:s3cret%2F1@host/x?sslpassword=other"
    assert (
        masked("user me, password s3cret/1 (s3cret%2F1), key other", url)
        == "user me, password *** (***), key ***"
    )


def test_a_password_with_a_blank_is_hidden_in_an_argument():
    assert masked_argument("--storage=postgresql://me:a s3cret@h/x") == "--storage=postgresql://me:***@h/x"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///out/tune/quick.db",
        "sqlite:////absolute/path:with/colons.db",
        "postgresql://me@host:5432/x?sslmode=require&application_name=tune&target_session_attrs=any",
        "training.batch_size=2048",
        "architectures=[{architecture: dlrm_mlp, config: {hidden_dim: 8}}]",
        "--set",
        "tokens=4",
        "see https://host/path?page=2",
    ],
)
def test_what_holds_no_secret_stays_as_it_was_typed(text):
    assert masked_argument(text) == masked(text) == text
