/** A child of `pool.ts`: runs the seeds that it is sent and answers each. Ends when its parent does. */
import { changeOf } from './controls.ts'
import { type Answer, begins, type Slice } from './pool.ts'
import { runChecked } from './run-checked.ts'

let running = Promise.resolve()

process.on('message', (slice: Slice) => {
  running = running.then(() => run(slice))
})

async function run({ seeds, repeat, control }: Slice): Promise<void> {
  await tell(begins)
  for (const seed of seeds) {
    const answer = await runChecked({ seed, ...changeOf(control) }, repeat)
    if (!process.connected) return
    await tell(answer)
  }
}

/** The next seed may never give the loop a turn, and would take a message with it. The parent may be gone. */
function tell(message: Answer | typeof begins): Promise<void> {
  return new Promise((resolve) => process.send?.(message, undefined, undefined, () => resolve()))
}
