/**
 * How a scenario goes on by more than one message: until it rests, and as time passes.
 *
 * Used by `commands.ts`.
 */
import type { Millis, NodeId } from '../../raft/index.ts'
import { everything } from './wire.ts'
import type { World } from './world.ts'
import type { WorldNode } from './world-node.ts'

/** Bounds `settle`, `tick` and `run`: a scenario is short, more is a loop. */
const stepsMax = 20_000

/** Delivers until nothing is on the wire; time stands still. */
export function settle(world: World): void {
  for (let steps = 0; ; steps++) {
    const [message] = world.wire.take(everything, 1)
    if (message === undefined) return
    if (steps > stepsMax) throw new Error('the group does not come to rest')
    world.deliver(message)
  }
}

/** One node's time goes on by `ms`, with a tick at every deadline; null: up to the next deadline. */
export function tick(world: World, id: NodeId, ms: Millis | null): void {
  const node = world.node(id)
  const deadline = () => node.core?.deadline() ?? Number.POSITIVE_INFINITY
  const end = ms === null ? Math.max(node.now, deadline()) : node.now + ms
  if (!Number.isFinite(end)) throw new Error(`${id} has no deadline`)
  for (let ticks = 0; deadline() <= end && (ms !== null || ticks === 0); ticks++) {
    if (ticks > stepsMax) throw new Error(`${id} ticks for ever`)
    node.now = Math.max(node.now, deadline())
    world.step(id, { kind: 'tick' })
  }
  node.now = end
}

/** Everybody's time goes on by `ms`, and every message arrives at once. */
export function run(world: World, ms: Millis): void {
  const nodes = world.ids.map((id) => world.node(id))
  const starts = new Map(nodes.map(({ id, now }) => [id, now]))
  const dueIn = ({ id, core, isPaused }: WorldNode) =>
    core === null || isPaused ? Number.POSITIVE_INFINITY : core.deadline() - (starts.get(id) as Millis)
  settle(world)
  for (let steps = 0; steps < stepsMax; steps++) {
    const next = nodes.reduce((a, b) => (dueIn(b) < dueIn(a) ? b : a))
    if (dueIn(next) > ms) break
    const at = Math.max(dueIn(next), next.now - (starts.get(next.id) as Millis))
    for (const node of nodes) node.now = Math.max(node.now, (starts.get(node.id) as Millis) + at)
    world.step(next.id, { kind: 'tick' })
    settle(world)
  }
  for (const node of nodes) node.now = (starts.get(node.id) as Millis) + ms
}
