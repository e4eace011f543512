/**
 * Brings broker groups back that the fault strategy has set aside: every 3 s it probes their leaders and reports how
 * long they took (RocketMQ's LatencyFaultTolerance.startDetector, which only ever probes reachability).
 *
 * Owned by a producer; runs only while there is something to probe, and never keeps the process alive.
 */
import type { Cancel, Clock } from '../common/clock.ts'
import { brokerMethods } from '../rpc/methods.ts'
import type { ConnectionPool } from './connection.ts'
import type { FaultStrategy } from './fault-strategy.ts'
import type { RouteTable } from './route-table.ts'

/** RocketMQ: every 3 s. */
export const detectIntervalMs = 3_000
/** RocketMQ gives a probe 200 ms; a slow group is to be measured, not just found slow. */
export const detectTimeoutMs = 2_000

export class FaultDetector {
  readonly #clock: Clock
  readonly #pool: ConnectionPool
  readonly #routes: RouteTable
  readonly #faults: FaultStrategy
  #cancel: Cancel | null = null
  #closed = false

  constructor(options: {
    readonly clock: Clock
    readonly pool: ConnectionPool
    readonly routes: RouteTable
    readonly faults: FaultStrategy
  }) {
    this.#clock = options.clock
    this.#pool = options.pool
    this.#routes = options.routes
    this.#faults = options.faults
  }

  /** Something was reported: probes start unless they run or nothing needs them. */
  wake(): void {
    if (this.#cancel || this.#closed || this.#faults.groupsToProbe().length === 0) return
    this.#cancel = this.#clock.after(
      detectIntervalMs,
      () => {
        this.#cancel = null
        void this.#probeAll()
      },
      { background: true },
    )
  }

  close(): void {
    this.#closed = true
    this.#cancel?.()
  }

  async #probeAll(): Promise<void> {
    await Promise.all(this.#faults.groupsToProbe().map((group) => this.#probe(group)))
    this.wake()
  }

  async #probe(group: string): Promise<void> {
    const route = this.#routes.group(group)
    const target = route?.leader ?? route?.nodes[0]
    if (!target || this.#closed) return
    const startedMs = this.#clock.monotonicMs()
    let reachable = false
    try {
      const connection = this.#pool.get(target.address)
      const reply = await connection.call(brokerMethods.probe, {}, { timeoutMs: detectTimeoutMs })
      reachable = reply.group === group && reply.leader
    } catch {
      // Not an error here: being unreachable is the answer.
    }
    if (this.#closed) return
    this.#faults.updateByProbe(group, { latencyMs: this.#clock.monotonicMs() - startedMs, reachable })
  }
}
