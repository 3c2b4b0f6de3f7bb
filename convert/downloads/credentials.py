"""Which sites want a token, and where the user keeps it: the environment, or the keyring."""

import importlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from convert.downloads.address import Address
from engines.errors import InputError, SettingError

KEYRING_SERVICE: Final = "fracture-sd"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """A site whose downloads may need a token.

    `variable` names the environment variable and the entry in the keyring, `page` is where the
    user makes a token.
    """

    hosts: frozenset[str]
    variable: str
    page: str


SITES: Final = (
    Site(
        frozenset({"civitai.com", "civitai.red"}),
        "CIVITAI_API_TOKEN",
        "https://civitai.com/user/account",
    ),
    Site(frozenset({"huggingface.co"}), "HF_TOKEN", "https://huggingface.co/settings/tokens"),
)


def site_of(address: Address, sites: Sequence[Site] = SITES) -> Site | None:
    """The known site that an address belongs to."""
    return next((site for site in sites if address.host in site.hosts), None)


def split_token(address: Address) -> tuple[Address, str | None]:
    """An address without its `token=` field, and that field's value.

    civitai offers addresses of this form. Sent as a header instead, the token stays out of logs.
    """
    parts = urlsplit(address.url)
    fields = parts.query.split("&")
    tokens = [field for field in fields if field.startswith("token=")]
    if not tokens:
        return address, None
    query = "&".join(field for field in fields if field not in tokens)
    token = unquote_plus(tokens[-1].removeprefix("token="))
    return replace(address, url=urlunsplit(parts._replace(query=query))), token


def find_token(site: Site, address: Address, given: str | None = None) -> str | None:
    """The user's token for a site: the one in the address, the environment, or the keyring.

    Raises:
        SettingError: the token holds characters that no token has.
        InputError: it would travel unencrypted.
    """
    token = (given or os.environ.get(site.variable, "") or _from_keyring(site)).strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SettingError(
            f"The token for {address.host} holds spaces or characters that no token has. "
            f"Copy it again from {site.page} into {site.variable}."
        )
    if not address.is_private_channel:
        raise InputError(
            f"The token for {address.host} would be sent unencrypted. Write https:// in the URL."
        )
    return token


def _from_keyring(site: Site) -> str:
    """The site's entry in the system's keyring; empty where there is none or no keyring."""
    try:
        keyring = importlib.import_module("keyring")
        errors = importlib.import_module("keyring.errors")
    except ImportError:
        return ""
    try:
        return keyring.get_password(KEYRING_SERVICE, site.variable) or ""
    except errors.KeyringError as error:
        _LOGGER.warning(
            "the keyring cannot be read (%s); set %s if the download needs a token",
            type(error).__name__,
            site.variable,
        )
        return ""
