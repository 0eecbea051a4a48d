"""What a screening point asks: of the bags with a threat, which share alarms when only so few of the clean ones do."""
