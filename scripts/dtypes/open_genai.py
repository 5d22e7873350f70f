"""Opens a folder in onnxruntime-genai and writes some tokens: open_genai.py FOLDER 5,77,300"""
import sys

import onnxruntime_genai as og

folder, prompt = sys.argv[1], [int(token) for token in sys.argv[2].split(",")]
config = og.Config(folder)
# Whatever it was built for, it is run here.
config.clear_providers()
model = og.Model(config)
params = og.GeneratorParams(model)
params.set_search_options(max_length=len(prompt) + 6, do_sample=False)
generator = og.Generator(model, params)
generator.append_tokens([prompt])
while not generator.is_done():
    generator.generate_next_token()
count = len(generator.get_sequence(0)) - len(prompt)
assert count > 0, "no token was written"
print(f"genai {og.__version__}: {count} tokens")
