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
    // The parent may have seen enough and be gone.
    process.send?.(answer, undefined, undefined, () => {})
  }
}
