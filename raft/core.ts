/** The consensus core of one replica. */
import type { Boot, RaftConfig, Random } from './config.ts'
import type { Input, RaftStatus, Ready, StepResult } from './ready.ts'
import type { Millis } from './types.ts'

export declare class RaftCore {
  constructor(config: RaftConfig, boot: Boot, random: Random, now: Millis)
  /** Feeds one input. `now` is monotonic and never smaller than before. */
  step(input: Input, now: Millis): StepResult
  hasReady(): boolean
  /** Takes what there is to do. Throws an InvariantError when there is nothing. */
  ready(): Ready
  /** Monotonic time at which the next `tick` is due; Infinity when none is. */
  deadline(): Millis
  status(now: Millis): RaftStatus
}
