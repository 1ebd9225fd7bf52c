"""Mistakes that a kernel could have: one rule of the reference each, as the text to replace in its source."""

BROKEN_RULES = {
    "an arrival at the end of a step comes too late": (
        "arrival_s <= self.now_s",
        "arrival_s < self.now_s + (0 if self.running else 1e-12)",
    ),
    "the limit in flight is one too high": ("len(self.running) >= limit", "len(self.running) > limit"),
    "only waiting requests are in flight": (
        "len(self.waiting) + len(self.running) >= limit",
        "len(self.waiting) >= limit",
    ),
    "the window holds one step more": ("while self.now_s < window_s", "while self.now_s <= window_s"),
    "the first running request is the victim": ("self.running.pop()", "self.running.pop(0)"),
    "a victim goes to the end of the queue": ("self.waiting.appendleft(victim)", "self.waiting.append(victim)"),
    "a victim keeps its blocks": ("self.give_back_blocks(victim)\n", "pass\n"),
    "a victim forgets what it generated": ("victim.computed = 0\n", "victim.computed = victim.generated = 0\n"),
    "a preemption does not hold back admission": ("if num_preempted == 0", "if True"),
    "a victim counts as preempted once": ("victim.num_preemptions += 1", "victim.num_preemptions = 1"),
    "a decode request costs no budget": ("budget -= num_tokens\n            i += 1", "i += 1"),
    "a block is needed one token later": (
        "request.computed + num_tokens) / self.limits.block_size",
        "request.computed + num_tokens - 1) / self.limits.block_size",
    ),
    "a skip blocks": (
        "                continue\n            found",
        "                break\n            found",
    ),
    "lack of blocks skips": (
        "len(self.waiting) > 1)\n                break",
        "0)\n                skipped.append(self.waiting.popleft())\n                continue",
    ),
    "a skipped request goes to the end": ("skipped + self.waiting", "self.waiting + skipped"),
    "skipped requests change places": ("skipped + self.waiting", "deque(reversed(skipped)) + self.waiting"),
    "new adapters do not fill the set": ("loras.add(request.adapter)", "pass"),
    "a request without adapter fills the set": (
        "if request.adapter >= 0:\n                loras",
        "if True:\n                loras",
    ),
    "one adapter too many": ("len(loras) == self.limits.max_loras", "len(loras) > self.limits.max_loras"),
    "one sequence too few": ("== self.limits.max_num_seqs:", ">= max(self.limits.max_num_seqs - 1, 1):"),
    "the whole prompt must fit": (
        "num_tokens, found) > self.free_blocks:\n                self.note",
        "request.known, found) > self.free_blocks:\n                self.note",
    ),
    "a prompt is not cut": ("num_tokens = min(request.known - found, budget)", "num_tokens = request.known"),
    "a request that does not fit the budget waits": (
        "            num_tokens = min(request.known - found, budget)\n",
        "            num_tokens = request.known\n"
        "            if num_tokens > budget and scheduled:\n                break\n"
        "            num_tokens = min(num_tokens, budget)\n",
    ),
    "adapters in descending order": ("in sorted(batch)", "in sorted(batch, reverse=True)"),
    "the host order is of loading": ("self.registered.move_to_end(adapter)", "pass"),
    "the slot order is of swapping in": ("self.active.move_to_end(adapter)", "pass"),
    "the last loaded leaves the host": ("self.registered.popitem(last=False)", "self.registered.popitem()"),
    "the last swapped in leaves its slot": ("self.active.popitem(last=False)", "self.active.popitem()"),
    "adapters of the step are not evicted": (
        "evicted, _ = self.active.popitem(last=False)",
        "evicted = next((a for a in self.active if a not in batch), 0)\n            self.active.pop(evicted)",
    ),
    "the host starts with the first": ("if adapter >= num_adapters - max_cpu_loras", "if adapter < max_cpu_loras"),
    "the slots start empty": ("if adapter >= num_adapters - max_loras", "if False"),
    "a disk load leaves out the swap-in": (
        "_activate(adapter, batch, note):",
        "_activate(adapter, batch, note) and (Event.DISK_LOAD, adapter) not in done:",
    ),
    "swap-ins before disk loads": (
        "for event, adapter in loads:",
        "for event, adapter in sorted(loads, reverse=True):",
    ),
    "a first token of one-token prompts is decode": (" or self.generated == 0", ""),
    "a recomputed token is decode": (" or self.recomputing", ""),
    "recomputation never ends": ("request.recomputing = False", "pass"),
    "recomputation ends at admission": (
        "self.note(Corner.RESUMED, request.recomputing)",
        "request.recomputing = False",
    ),
    "decode reads its own token": (
        "sum(request.computed for request in decode)",
        "sum(request.computed + 1 for request in decode)",
    ),
    "a chunk reads no tokens before it": ("n * request.computed + n * n // 2", "n * n // 2"),
    "half a token is counted": ("n * n // 2", "(n * n + 1) // 2"),
    "waiting as before the step": ("waiting=len(self.waiting)", "waiting=len(self.waiting) + len(scheduled)"),
    "nobody is skipped": ("return len(skipped)", "return 0"),
    "all that wait are skipped": ("return len(skipped)", "return len(self.waiting)"),
    "who is behind the end of the walk is skipped": (
        "return len(skipped)",
        "return sum(r.adapter >= 0 and r.adapter not in loras for r in self.waiting) if skipped else 0",
    ),
    "every adapter is distinct": ("len(adapters_of(scheduled)),", "sum(r.adapter >= 0 for r in scheduled),"),
    "prefill with adapters is not seen": ("if request.adapter >= 0)", "if request.adapter > 0)"),
    "a token for every chunk of the recomputation": (
        "request.computed < request.known:",
        "request.computed < request.prompt_tokens:",
    ),
    "a token for every chunk": ("not in scheduled or request.computed < request.known:", "not in scheduled:"),
    "admission is the last one": ("if math.isnan(request.admitted_s)", "if True"),
    "requests finish from the back": (
        "for request in list(self.running):",
        "for request in list(reversed(self.running)):",
    ),
    "blocks are counted after the step": (
        "        num_swap_ins = ",
        "        kv_blocks_used = self.limits.num_blocks - self.free_blocks\n        num_swap_ins = ",
    ),
    "a disk load takes as long as a swap-in": (
        "self.disk_load_s[a] if event == Event.DISK_LOAD else self.swap_in_s[a]",
        "self.swap_in_s[a]",
    ),
    "loading takes as long as the last": ("self.loading_s(loads)\n", "self.loading_s(loads[-1:])\n"),
    "first token a nanosecond off": ("first_token_s = self.now_s", "first_token_s = self.now_s * (1 + 1e-8) + 1e-8"),
    "a finished request leaves before its first token": (
        "if request.generated == 1:\n",
        "if request.generated == 1 and request.output_tokens > 1:\n",
    ),
}
