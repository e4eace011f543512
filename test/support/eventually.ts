/** Turns of the event loop before the wait takes steps of time: most conditions come true without any. */
const turnsAtOnce = 50

/** Waits for a condition instead of for time; fails with the last state when the bound is reached. */
export async function eventually<Value>(
  what: string,
  probe: () => Value | null | undefined | false,
  options: { readonly timeoutMs?: number; readonly state?: () => unknown } = {},
): Promise<Value> {
  const endMs = performance.now() + (options.timeoutMs ?? 60_000)
  for (let turn = 0; ; turn++) {
    const value = probe()
    if (value !== null && value !== undefined && value !== false) return value
    if (performance.now() > endMs) {
      throw new Error(`not reached in time: ${what}; state: ${JSON.stringify(options.state?.() ?? null)}`)
    }
    await new Promise((resolve) => (turn < turnsAtOnce ? setImmediate(resolve) : setTimeout(resolve, 2)))
  }
}
