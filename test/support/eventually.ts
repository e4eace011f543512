type Probed<Value> = Value | null | undefined | false

/** Turns of the event loop before the wait takes steps of time: most conditions come true without any. */
const turnsAtOnce = 50

/**
 * Waits for a condition instead of for time; fails with the last state when the bound is reached. A probe that is a
 * promise counts by what it resolves to.
 */
export async function eventually<Value>(
  what: string,
  probe: () => Probed<Value> | Promise<Probed<Value>>,
  options: { readonly timeoutMs?: number; readonly state?: () => unknown } = {},
): Promise<Value> {
  const endMs = performance.now() + (options.timeoutMs ?? 60_000)
  for (let turn = 0; ; turn++) {
    const looked = probe()
    // Only what is a promise is awaited: nothing may happen between a look and what follows from it.
    const value = looked instanceof Promise ? await looked : looked
    if (value !== null && value !== undefined && value !== false) return value
    if (performance.now() > endMs) {
      throw new Error(`not reached in time: ${what}; state: ${JSON.stringify(options.state?.() ?? null)}`)
    }
    await new Promise((resolve) => (turn < turnsAtOnce ? setImmediate(resolve) : setTimeout(resolve, 2)))
  }
}
