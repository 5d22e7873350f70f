import texts from './default-texts.json' with { type: 'json' };

/**
 * The calibration text that ships with the package, so that a first run needs no text: short documents of many
 * registers and languages, because neurons specialise in them.
 *
 * Sources: the scenes in verse are William Shakespeare's (public domain): Richard III, Romeo and Juliet, Richard II,
 * Measure for Measure, The Taming of the Shrew, The Tempest and Coriolanus. Everything else (exposition, letters,
 * conversations, instructions, fiction, programs, sums, other languages) was written for this project and is under its
 * licence. About 68 thousand characters.
 */
export const DEFAULT_TEXTS: readonly string[] = texts;
