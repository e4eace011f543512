/**
 * Changes of what seeds draw, by name: the negative control, under which a run must fail or the checks are worth
 * nothing, and leanings, under which something that is rare with plain seeds happens all the time.
 */
import { eagerTrim, type SimConfiguration } from './configuration.ts'

/** Syncs fulfil and make nothing durable, and the power goes. The damage itself must be noticed, not the lie. */
export function lyingFsync(configuration: SimConfiguration): SimConfiguration {
  return {
    ...configuration,
    disk: { ...configuration.disk, lyingSync: true },
    faults: { power_loss_all: 1 },
    finalPowerLoss: true,
    looksAtDisks: false,
  }
}

/** The control of this name as an option of a run; nothing for none. */
export function changeOf(control: string | null): {
  readonly change?: (configuration: SimConfiguration) => SimConfiguration
} {
  if (control === null) return {}
  if (control === 'lying-fsync') return { change: lyingFsync }
  if (control === 'eager-trim') return { change: eagerTrim }
  throw new RangeError(`there is no control named ${control}`)
}
