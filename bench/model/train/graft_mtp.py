"""Put an MTP layer that train_drafters.py --only mtp has trained back into the trunk's checkpoint.

    graft_mtp.py --checkpoint TRUNK --drafters CKPT --out FILE
"""

import argparse

import torch

ap = argparse.ArgumentParser()
ap.add_argument("--checkpoint", required=True)
ap.add_argument("--drafters", required=True, help="checkpoint of train_drafters.py")
ap.add_argument("--out", required=True)
a = ap.parse_args()
trunk, tuned = torch.load(a.checkpoint), torch.load(a.drafters)
layer = {n: w for n, w in tuned["opt"]["master"].items() if n.startswith("mtp.")}
if not layer or set(layer) - set(trunk["opt"]["master"]):
    ap.error("%s holds no MTP layer of this trunk" % a.drafters)
trunk["opt"]["master"].update(layer)
trunk["seconds"] += tuned["seconds"]
torch.save(trunk, a.out)
print("%d tensors, trained on %d tokens" % (len(layer), tuned["tokens"]))
