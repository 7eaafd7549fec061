"""The vault of the running playbook, for actions, through ansible-vault's own library."""

from __future__ import annotations

from ansible.errors import AnsibleError
from ansible.parsing.vault import (
    VaultLib,
    VaultSecretsContext,
    is_encrypted,
    match_encrypt_secret,
)

from plugins.module_utils.pki_authority import Vault
from plugins.module_utils.pki_certificates import PkiError

REMEDY = "docs/operations/secrets.md says where the vault's password is kept"


def of_this_run() -> Vault:
    """Encrypts and decrypts with the passwords the run was started with.

    What is not encrypted is read as it stands: a plant may keep its own CA's key in another way.
    """
    secrets = VaultSecretsContext.current().secrets

    def encrypt(content: bytes) -> bytes:
        try:
            vault_id, secret = match_encrypt_secret(secrets)
            return bytes(VaultLib(secrets).encrypt(content, secret, vault_id))
        except AnsibleError as error:
            raise PkiError(f"the CA's key cannot be encrypted: {error}; {REMEDY}") from error

    def decrypt(content: bytes) -> bytes:
        if not is_encrypted(content):
            return content
        try:
            return bytes(VaultLib(secrets).decrypt(content))
        except AnsibleError as error:
            raise PkiError(f"the CA's key cannot be decrypted: {error}; {REMEDY}") from error

    return Vault(encrypt, decrypt)
