/**
 * Stands in for the replica of a node that takes no part in its group (yet): knows its names and refuses the rest
 * with the reason. Lets status and events be served from the first moment.
 */
import type { CommitLogApi } from '../../../store/index.ts'
import type { LedgerError } from '../../common/errors.ts'
import type { Applied, ReplicaApi, StateMachineApi } from '../contract.ts'

export class Stranger implements ReplicaApi {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly incarnation = ''
  readonly commitIndex = 0
  readonly appliedIndex = 0
  readonly term = 0
  readonly running = false
  readonly leading = false
  readonly nodes: readonly { readonly node: string; readonly address: string }[] = []
  readonly #absent: () => LedgerError

  constructor(
    names: { readonly cluster: string; readonly group: string; readonly node: string },
    absent: () => LedgerError,
  ) {
    this.cluster = names.cluster
    this.group = names.group
    this.node = names.node
    this.#absent = absent
  }

  get log(): CommitLogApi {
    throw this.#absent()
  }

  get machine(): StateMachineApi {
    throw this.#absent()
  }

  leader(): null {
    return null
  }

  propose(): Promise<Applied> {
    return Promise.reject(this.#absent())
  }

  readCurrent(): Promise<void> {
    return Promise.reject(this.#absent())
  }

  onApplied(): () => void {
    return () => {}
  }

  onRoleChanged(): () => void {
    return () => {}
  }
}
