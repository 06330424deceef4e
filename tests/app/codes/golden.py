"""Golden codes: prints those of the tiny tables (python -m tests.app.codes.golden)."""

from app.codes.codec import CodeCodec
from app.codes.wire import to_text
from tests.app.codes.tiny_codes import TAG, tiny_car, tiny_decode, tiny_tables

BUDGETS = (24, 64, 128, 255)

if __name__ == "__main__":
    image, latent = tiny_car(7)
    codes = CodeCodec(tiny_tables(), TAG).pack(image, latent, (3000, 2000), tiny_decode, BUDGETS)
    for budget, code in zip(BUDGETS, codes, strict=True):
        print(f'    {budget}: "{to_text(code)}",')
