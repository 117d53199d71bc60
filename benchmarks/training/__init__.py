"""Does training do what the audit says, and do interventions change it? Real trainings, small enough for two cores."""
