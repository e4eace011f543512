/**
 * What an operator sets for a consumer group (RocketMQ: SubscriptionGroupConfig), kept as one row per group. Changed
 * by commands alone; a group without a row has the defaults.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { defaultGroupSettings, type GroupSettings, groupSettingsSchema } from './group-config.ts'
import { groupSettingsKey, nameInKey, rowKinds } from './keys.ts'
import type { Limits } from './limits.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import { type Refusal, refusal } from './result.ts'

const retriesMaxMax = 1000
const delaysCountMax = 64
const delayMsMax = 40 * 24 * 3_600_000

export class GroupSettingsTable implements StateTable {
  readonly #settings = new Map<string, GroupSettings>()
  readonly #dirty = new Set<string>()

  get dirtyCount(): number {
    return this.#dirty.size
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.groupSettings))
      this.#settings.set(nameInKey(key), groupSettingsSchema.decode(value))
  }

  get(group: string): GroupSettings {
    return this.#settings.get(group) ?? defaultGroupSettings
  }

  has(group: string): boolean {
    return this.#settings.has(group)
  }

  /** Groups with settings of their own, by name. */
  all(): ReadonlyMap<string, GroupSettings> {
    return this.#settings
  }

  set(group: string, settings: GroupSettings, limits: Limits): Refusal | null {
    const problem = findProblem(settings)
    if (problem) return refusal('INVALID_PARAMETER', `group ${group}: ${problem}`)
    if (!this.#settings.has(group) && this.#settings.size >= limits.groupsMax)
      return refusal('INVALID_PARAMETER', `there are ${limits.groupsMax} consumer groups already, the most allowed`)
    this.#settings.set(group, settings)
    this.#dirty.add(group)
    return null
  }

  delete(group: string): void {
    if (this.#settings.delete(group)) this.#dirty.add(group)
  }

  collect(into: StateOperation[]): void {
    for (const group of this.#dirty) {
      const key = groupSettingsKey(group)
      const settings = this.#settings.get(group)
      if (settings) into.push({ kind: 'put', key, value: groupSettingsSchema.encode(settings) })
      else into.push({ kind: 'delete', key })
    }
    this.#dirty.clear()
  }
}

function findProblem({ retriesMax, retryDelaysMs }: GroupSettings): string | null {
  if (retriesMax > retriesMaxMax) return `retriesMax is ${retriesMax}, at most ${retriesMaxMax} are allowed`
  if (retryDelaysMs.length === 0 || retryDelaysMs.length > delaysCountMax)
    return `there are ${retryDelaysMs.length} retry delays, from 1 to ${delaysCountMax} are allowed`
  const long = retryDelaysMs.find((delayMs) => delayMs > delayMsMax)
  return long === undefined ? null : `a retry delay of ${long} ms, at most ${delayMsMax} are allowed`
}
