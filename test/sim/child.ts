/** A child of `pool.ts`: runs the seeds that it is sent and answers each. Ends when its parent does. */
import { changeOf } from './controls.ts'
import type { Slice } from './pool.ts'
import { runChecked } from './run-checked.ts'

let running = Promise.resolve()

process.on('message', (slice: Slice) => {
  running = running.then(() => run(slice))
})

async function run({ seeds, repeat, control }: Slice): Promise<void> {
  for (const seed of seeds) {
    const answer = await runChecked({ seed, ...changeOf(control) }, repeat)
    if (!process.connected) return
    // The next seed may never give the loop a turn, and would take this answer with it. The parent may be gone.
    await new Promise<void>((resolve) => process.send?.(answer, undefined, undefined, () => resolve()))
  }
}
